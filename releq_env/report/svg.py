"""A figure as SVG that stands in an HTML page: in the page's colours and font, with ids of its own, without scripts."""

import io
import re
import warnings
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from markupsafe import Markup

from releq_env.report.pictures import FAINT, INK, MAIN, SECOND, THIRD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {INK: "--ink", FAINT: "--faint", MAIN: "--main", SECOND: "--second", THIRD: "--third", "#ffffff": "--paper"}
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "DejaVu Sans"}


def inline_svg(figure: "Figure", name: str, description: str) -> Markup:
    """Return a figure as an `<svg>` element.

    Args:
        figure: The figure.
        name: Begins the ids in it: unlike any other picture's on the page.
        description: What it shows, for who cannot see it.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the browser's fonts have what matplotlib's lack
        figure.patch.set_visible(False)
        for axis in figure.axes:
            axis.patch.set_visible(False)
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, _, rest = text.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None
    rest = re.sub(r'\bid="', f'id="{name}-', rest)
    rest = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", rest).replace("xlink:href", "href")
    rest = re.sub(r"(?<=[\s\"'])font: (?:\w+ )*([\d.]+px) [^;\"]*", r"font-size: \1", rest)
    for colour, variable in _COLOURS.items():
        rest = rest.replace(colour, f"var({variable})")
    lines = re.sub(r"\n\s*", "\n", rest)
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label={quoteattr(description)}>{lines}')

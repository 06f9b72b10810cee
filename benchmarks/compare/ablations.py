"""Named groups of agents that differ in one thing each: what `--algos` takes beside the names of agents."""

from benchmarks.compare.run import Variant

_AS_PUBLISHED = {"evaluate": "step", "action_mode": "flexible"}

_WITHOUT_LSTM = (
    "n_epochs=3",
    "learning_rate=1e-4",
    "gae_lambda=0.99",
    "ent_coef=0.01",
    "vf_coef=1.0",
    "callback=null",
    "policy_kwargs={net_arch: {pi: [128, 128], vf: [128, 64]}}",
)
"""Settings of the paper's agent for plain PPO, as `agents/hyperparams/recurrent_ppo.yml` has them."""


def _paper(
    label: str,
    algo: str = "recurrent_ppo",
    *,
    settings: tuple[str, ...] = (),
    clip: float = 0.1,
    reward: str = "shaped",
    **env: str,
) -> Variant:
    arguments = tuple(sorted((_AS_PUBLISHED | env).items()))
    return Variant(label, algo, (*settings, f"clip_range={clip}"), arguments, (("reward", reward),))


PAPER: tuple[Variant, ...] = (
    _paper("paper"),
    _paper("paper/reward-ratio", reward="ratio"),
    _paper("paper/reward-difference", reward="difference"),
    _paper("paper/restricted", action_mode="restricted"),
    _paper("paper/reward-at-end", evaluate="episode"),
    _paper("paper/reward-gain", evaluate="gain"),
    _paper("paper/no-lstm", "ppo", settings=_WITHOUT_LSTM),
    _paper("paper/clip-0.2", clip=0.2),
    _paper("paper/clip-0.3", clip=0.3),
)
"""The paper's own ablations: its agent (with an LSTM, reward `shaped` after each step, any bitwidth as an action,
clipped at 0.1) and what differs from it in one thing. On `--envs paper`."""

_PARTS = {
    "no-model": "model=false",
    "always-trusts": "trust=-1000",
    "no-imitation": "imitation=0",
    "plain-gradient": "quantile=1.0",
    "no-warm-start": "warm_start=false",
    "may-repeat": "never_repeat=false",
    "no-policy": "learn=false",
}

DYNA_PPO: tuple[Variant, ...] = (
    Variant("dyna_ppo", "dyna_ppo"),
    *(Variant(f"dyna_ppo/{name}", "dyna_ppo", (setting,)) for name, setting in _PARTS.items()),
)
"""`dyna_ppo`, and without one of its parts each."""

GROUPS: dict[str, tuple[Variant, ...]] = {"paper": PAPER, "dyna_ppo-parts": DYNA_PPO}

"""One run, whatever the agent: its settings, its folder, its progress."""

"""The agents: one registry, one adapter for each family of them."""

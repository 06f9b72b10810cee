"""The parts of `dyna_ppo`: a policy, a model of the accuracy, and how the one is trained on the other."""

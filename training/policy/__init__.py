"""Reinforcement learning of the policy: rewards, and what they are computed from."""

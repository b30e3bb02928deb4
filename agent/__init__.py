"""The policy that searches and answers: protocol, engine, rollout, checked answers, traces, and the command line."""

"""The bench of page-vector search: ours beside its peers, on the same vectors, on one machine, in one run.

`presets` says how large; `real_text`, `synthetic` and `distractors` make the vectors; `corpus` keeps them with queries and the
exact answers; `engine_table` lists who is timed, `environments` and `runner` start each engine in a process of its own, and
`engines/` holds what runs there; `bench` puts the rows together and `plot` draws them.
"""

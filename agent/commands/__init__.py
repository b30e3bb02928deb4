"""One configuration class per command; `colsearcher.agent.cli` knows them by name."""

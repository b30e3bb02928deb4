"""The page-vector store: durable segments, exact MaxSim, BM25 over the pages' words, one explainable score."""

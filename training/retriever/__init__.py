"""Fine-tuning of the visual retriever."""

"""Task family, prompts and tokenizer of the coder-tiny model."""

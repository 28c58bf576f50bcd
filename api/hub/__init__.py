"""The API of Hugging Face hubs, as their clients speak it."""

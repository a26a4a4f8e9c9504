"""What is found out beside the pipeline's own passes: inquiries, and the passes that answer them."""

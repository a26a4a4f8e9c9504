"""What is read while a pipeline runs, how finely it is kept, and what that costs."""

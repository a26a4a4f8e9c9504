"""What the text encoders heard, and which column of the text is which word of which prompt."""

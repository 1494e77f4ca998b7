"""What is recognised so that an error can say why it is not opened."""

"""What one does with a trained network: load it, try it, measure it, take it elsewhere."""

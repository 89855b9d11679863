"""What drives TensorFlow, which is handed in where that lets fakes stand in for it."""

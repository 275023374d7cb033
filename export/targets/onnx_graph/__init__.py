"""The ONNX graph of a program: captured, given precisions layer by layer, written and checked."""

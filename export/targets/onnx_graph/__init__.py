"""From a program to an ONNX graph: captured, given precisions layer by layer, written and checked."""

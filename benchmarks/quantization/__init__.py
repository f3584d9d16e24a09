"""8 bits: the error of ONNX Runtime's static quantization on a model as it is, folded, and folded and equalized."""

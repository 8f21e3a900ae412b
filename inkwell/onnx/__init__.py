"""One decode step as an ONNX graph, built in memory and run by ONNX Runtime on the CPU in float32."""

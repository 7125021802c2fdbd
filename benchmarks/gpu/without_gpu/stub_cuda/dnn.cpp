// cuDNN: ONNX Runtime finds it by name, and asks for a handle of it before it computes.

#include <cstdio>

#include "stub.h"

using namespace stub;

namespace {
cudaStream_t dnn_stream = nullptr;
constexpr int kNotInitialized = 1001, kNotSupported = 3000;
int dnn_made(void** made) {
  if (enqueued("cudnn")) return kNotInitialized;
  *made = new int;
  return 0;
}
}  // namespace

SHOWN int cudnnCreate(void** handle) {
  Lock lock(mutex);
  ++launched["handles of cuDNN"];
  return dnn_made(handle);
}
SHOWN size_t cudnnGetVersion() { return 91000; }
SHOWN const char* cudnnGetErrorString(int) { return "status of the stub"; }
SHOWN void cudnnGetLastErrorString(char* text, size_t size) { snprintf(text, size, "status of the stub"); }
SHOWN int cudnnSetStream(void*, cudaStream_t stream) {
  dnn_stream = stream;
  return 0;
}
SHOWN int cudnnGetStream(void*, cudaStream_t* stream) {
  *stream = dnn_stream;
  return 0;
}
SHOWN int cudnnGetReductionWorkspaceSize(void*, void*, void*, void*, size_t* size) { return *size = 0; }
SHOWN int cudnnGetReductionIndicesSize(void*, void*, void*, void*, size_t* size) { return *size = 0; }
SHOWN int cudnnReduceTensor(...) {
  noted(dnn_stream, "cudnnReduceTensor");
  return 0;
}
SHOWN int cudnnSoftmaxForward(...) {
  noted(dnn_stream, "cudnnSoftmaxForward");
  return 0;
}
#define MAKES(name) \
  SHOWN int name(void** made) { return dnn_made(made); }
MAKES(cudnnCreateActivationDescriptor)
MAKES(cudnnCreateConvolutionDescriptor)
MAKES(cudnnCreateDropoutDescriptor)
MAKES(cudnnCreateFilterDescriptor)
MAKES(cudnnCreateLRNDescriptor)
MAKES(cudnnCreatePoolingDescriptor)
MAKES(cudnnCreateRNNDataDescriptor)
MAKES(cudnnCreateRNNDescriptor)
MAKES(cudnnCreateReduceTensorDescriptor)
MAKES(cudnnCreateTensorDescriptor)
#define DOES(name) \
  SHOWN int name(...) { return 0; }
DOES(cudnnDestroy)
DOES(cudnnDestroyActivationDescriptor)
DOES(cudnnDestroyConvolutionDescriptor)
DOES(cudnnDestroyDropoutDescriptor)
DOES(cudnnDestroyFilterDescriptor)
DOES(cudnnDestroyLRNDescriptor)
DOES(cudnnDestroyPoolingDescriptor)
DOES(cudnnDestroyRNNDataDescriptor)
DOES(cudnnDestroyRNNDescriptor)
DOES(cudnnDestroyReduceTensorDescriptor)
DOES(cudnnDestroyTensorDescriptor)
DOES(cudnnSetActivationDescriptor)
DOES(cudnnSetConvolutionGroupCount)
DOES(cudnnSetConvolutionMathType)
DOES(cudnnSetConvolutionNdDescriptor)
DOES(cudnnSetFilterNdDescriptor)
DOES(cudnnSetPoolingNdDescriptor)
DOES(cudnnSetReduceTensorDescriptor)
DOES(cudnnSetTensorNdDescriptor)
// What no graph of rankport computes by cuDNN.
#define REFUSES(name) \
  SHOWN int name(...) { return kNotSupported; }
REFUSES(cudnnActivationForward)
REFUSES(cudnnAddTensor)
REFUSES(cudnnBackendCreateDescriptor)
REFUSES(cudnnBackendDestroyDescriptor)
REFUSES(cudnnBackendExecute)
REFUSES(cudnnBackendFinalize)
REFUSES(cudnnBackendGetAttribute)
REFUSES(cudnnBackendSetAttribute)
REFUSES(cudnnBatchNormalizationForwardInference)
REFUSES(cudnnBatchNormalizationForwardTraining)
REFUSES(cudnnConvolutionBiasActivationForward)
REFUSES(cudnnConvolutionForward)
REFUSES(cudnnDeriveBNTensorDescriptor)
REFUSES(cudnnDropoutGetStatesSize)
REFUSES(cudnnFindConvolutionForwardAlgorithmEx)
REFUSES(cudnnGetConvolutionForwardAlgorithm_v7)
REFUSES(cudnnGetConvolutionForwardWorkspaceSize)
REFUSES(cudnnGetRNNTempSpaceSizes)
REFUSES(cudnnGetRNNWeightParams)
REFUSES(cudnnGetTensorNdDescriptor)
REFUSES(cudnnLRNCrossChannelForward)
REFUSES(cudnnPoolingForward)
REFUSES(cudnnRNNForward)
REFUSES(cudnnSetDropoutDescriptor)
REFUSES(cudnnSetLRNDescriptor)
REFUSES(cudnnSetRNNDataDescriptor)
REFUSES(cudnnSetRNNDescriptor_v8)

// Kernels that a library registers: each launch is noted by the kernel's name and does nothing.

#include <cxxabi.h>

#include <cstdlib>
#include <unordered_map>

#include "stub.h"

using namespace stub;

namespace {

std::unordered_map<const void*, std::string> functions;
thread_local struct {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} configuration;

std::string demangled(const char* name) {
  int status = 0;
  char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 ? plain : name;
  free(plain);
  return result;
}

bool fits(dim3 size, unsigned most_x, unsigned most_y, unsigned most_z) {
  return size.x && size.y && size.z && size.x <= most_x && size.y <= most_y && size.z <= most_z;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, cudaStream_t stream) {
  Lock lock(mutex);
  if (cudaError_t error = enqueued("cudaLaunchKernel")) return error;
  auto found = functions.find(function);
  if (found == functions.end()) return failed(cudaErrorInvalidDeviceFunction, "launch of a kernel that was not registered");
  // As `device.cpp` tells its limits: tensors without numbers ask for no blocks, unless an operator leaves them out.
  if (!fits(grid, 2147483647, 65535, 65535) || !fits(block, 1024, 1024, 64) || block.x * block.y * block.z > 1024) {
    return failed(cudaErrorInvalidConfiguration, "launch over blocks or threads that CUDA does not take, of " + found->second);
  }
  noted(stream, found->second);
  return cudaSuccess;
}

}  // namespace

SHOWN void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
SHOWN void __cudaRegisterFatBinaryEnd(void**) {}
SHOWN void __cudaUnregisterFatBinary(void**) {}
SHOWN void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
SHOWN void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*, void*, void*, int*) {
  Lock lock(mutex);
  functions[host] = demangled(name);
}
SHOWN unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  configuration = {grid, block, shared, static_cast<cudaStream_t>(stream)};
  return 0;
}
SHOWN cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}
SHOWN cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
SHOWN cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t, cudaStream_t stream) {
  return launch(kernel, grid, block, stream);
}
SHOWN cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void**, size_t, cudaStream_t stream) {
  return launch(function, grid, block, stream);
}
SHOWN cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void**, size_t, cudaStream_t stream) {
  return launch(function, grid, block, stream);
}
SHOWN cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void**) {
  return launch(function, config->gridDim, config->blockDim, config->stream);
}
SHOWN cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (noted(stream, "host function")) function(data);
  return cudaSuccess;
}
SHOWN cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 64;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  return cudaSuccess;
}
SHOWN cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
SHOWN cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) { return cudaSuccess; }
SHOWN cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
SHOWN cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void*, cudaJitOption*, void**, unsigned, cudaLibraryOption*, void**,
                                      unsigned) {
  *library = reinterpret_cast<cudaLibrary_t>(new int);
  return cudaSuccess;
}
SHOWN cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t, const char* name) {
  Lock lock(mutex);
  auto* made = new int;
  functions[made] = demangled(name);
  *kernel = reinterpret_cast<cudaKernel_t>(made);
  return cudaSuccess;
}
SHOWN cudaError_t cudaLibraryUnload(cudaLibrary_t) { return cudaSuccess; }
SHOWN int cuTensorMapEncodeTiled(...) { return 0; }
SHOWN cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                                   cudaDriverEntryPointQueryResult* found) {
  Lock lock(mutex);
  ++launched[std::string("entry point ") + symbol];
  *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  if (found) *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}


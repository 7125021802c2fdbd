// The device: an H200, alone.

#include <cstring>

#include "stub.h"

using namespace stub;

SHOWN cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
SHOWN cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
SHOWN cudaError_t cudaSetDevice(int device) { return device ? (last = cudaErrorInvalidDevice) : cudaSuccess; }
SHOWN cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
SHOWN cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
SHOWN cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device) return last = cudaErrorInvalidDevice;
  *properties = {};
  strcpy(properties->name, "stub of an H200");
  properties->totalGlobalMem = kMemory;
  properties->sharedMemPerBlock = 49152;
  properties->sharedMemPerBlockOptin = 232448;
  properties->sharedMemPerMultiprocessor = 233472;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = 9;
  properties->minor = 0;
  properties->multiProcessorCount = 132;
  properties->l2CacheSize = 52428800;
  properties->cooperativeLaunch = 1;
  properties->memoryPoolsSupported = 1;
  properties->unifiedAddressing = 1;
  return cudaSuccess;
}
SHOWN cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  static const std::map<int, int> values{
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxGridDimZ, 65535},
      {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 233472},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrMaxRegistersPerBlock, 65536},
      {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
      {cudaDevAttrMultiProcessorCount, 132},
      {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrL2CacheSize, 52428800},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrComputeCapabilityMinor, 0},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrMemoryPoolsSupported, 1},
      {cudaDevAttrUnifiedAddressing, 1},
      {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
  };
  auto found = values.find(attribute);
  *value = found == values.end() ? 0 : found->second;
  return cudaSuccess;
}
SHOWN cudaError_t cudaDeviceSynchronize() {
  if (cudaError_t error = entered("cudaDeviceSynchronize")) return error;
  return refused_in_recording("cudaDeviceSynchronize");
}

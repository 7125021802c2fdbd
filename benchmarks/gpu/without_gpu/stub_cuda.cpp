// A CUDA runtime without a GPU: memory is the host's, kernels are noted and do nothing.
//
// It stands in for libcudart, libcublas, libcublasLt, libcurand and libcuda, so that ONNX Runtime's own CUDA provider
// loads graphs, places their nodes, binds device memory, records passes and launches its kernels on a machine that has
// no GPU. What such a run proves: which provider takes each node, which kernels a pass launches and how often, what is
// copied, what a recording forbids, what the host's part costs. What it cannot: any number.
//
// Stricter than a GPU where that finds faults: a copy from or to memory that was not allocated, or past its end, is an
// error with its reason (`stub_faults`).

#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#define SHOWN extern "C" __attribute__((visibility("default")))

namespace {

constexpr size_t kMemory = size_t{140} << 30;  // of an H200

struct Recording {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  std::vector<std::string> nodes;
  bool broken = false;
};

struct Stream {
  Recording* recording = nullptr;
};

std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;
std::unordered_map<const void*, std::string> functions;
std::map<char*, size_t> memory, pinned;
std::multimap<size_t, char*> freed;
std::set<Stream*> streams;
std::map<std::string, long> launched;
std::vector<std::string> faults;
size_t used = 0, peak = 0;
thread_local cudaError_t last = cudaSuccess;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;  // what recordings of others forbid it
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

Stream* stream_of(cudaStream_t stream) {
  auto* own = reinterpret_cast<Stream*>(stream);
  return streams.count(own) ? own : nullptr;
}

cudaError_t failed(cudaError_t error, const std::string& reason) {
  Lock lock(mutex);
  faults.push_back(reason);
  return last = error;
}

// What this thread may not do while it records a stream, and none while another records in CUDA's global mode but those
// that said to stand apart.
cudaError_t refused_in_recording(const char* call) {
  Lock lock(mutex);
  for (Stream* stream : streams) {
    Recording* recording = stream->recording;
    if (!recording || recording->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool own = recording->thread == std::this_thread::get_id();
    if (!own && (recording->mode != cudaStreamCaptureModeGlobal || thread_mode != cudaStreamCaptureModeGlobal)) continue;
    recording->broken = true;
    return failed(cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream is recorded");
  }
  return cudaSuccess;
}

// What waits for a stream that is recorded would wait for ever.
cudaError_t refused_of_recorded(const char* call, cudaStream_t stream) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (!own || !own->recording) return cudaSuccess;
  own->recording->broken = true;
  return failed(cudaErrorStreamCaptureUnsupported, std::string(call) + " of a stream that is recorded");
}

// Notes a node of the stream's recording, or work that is done at once; true where it is done at once.
bool noted(cudaStream_t stream, const std::string& name) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (own && own->recording) {
    own->recording->nodes.push_back(name);
    return false;
  }
  ++launched[name];
  return true;
}

cudaError_t launch(const void* function, cudaStream_t stream) {
  Lock lock(mutex);
  auto found = functions.find(function);
  if (found == functions.end()) return failed(cudaErrorInvalidDeviceFunction, "launch of a kernel that was not registered");
  noted(stream, found->second);
  return cudaSuccess;
}

// Addresses of more memory than there is, which costs nothing until it is written; what is freed is given out again.
char* reserved(size_t size) {
  static const size_t room = 4 * kMemory;
  static char* const start = static_cast<char*>(
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  static size_t given = 0;
  auto found = freed.find(size);
  if (found != freed.end()) {
    char* again = found->second;
    freed.erase(found);
    return again;
  }
  if (start == MAP_FAILED || given + size > room) return nullptr;
  given += size;
  return start + given - size;
}

size_t rounded(size_t size) { return std::max((size + 511) / 512 * 512, size_t{512}); }

void* allocated(size_t size) {
  Lock lock(mutex);
  if (used + size > kMemory) return nullptr;
  char* made = reserved(rounded(size));
  if (!made) return nullptr;
  memory[made] = size;
  used += size;
  peak = std::max(peak, used);
  return made;
}

cudaError_t allocate(void** result, size_t size) {
  *result = allocated(size);
  return *result ? cudaSuccess : (last = cudaErrorMemoryAllocation);
}

cudaError_t release(void* pointer) {
  if (!pointer) return cudaSuccess;
  Lock lock(mutex);
  auto found = memory.find(static_cast<char*>(pointer));
  if (found == memory.end()) return failed(cudaErrorInvalidValue, "free of memory that is not there");
  used -= found->second;
  freed.emplace(rounded(found->second), found->first);
  memory.erase(found);
  return cudaSuccess;
}

enum class Place { host, device, past };

Place place_of(const void* pointer, size_t size) {
  Lock lock(mutex);
  auto* start = static_cast<char*>(const_cast<void*>(pointer));
  auto after = memory.upper_bound(start);
  if (after == memory.begin()) return Place::host;
  auto [base, length] = *std::prev(after);
  if (start >= base + std::max(length, size_t{1})) return Place::host;
  return start + size <= base + length ? Place::device : Place::past;
}

cudaError_t checked_copy(const char* call, void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  if (!size) return cudaSuccess;
  Place target = place_of(to, size), source = place_of(from, size);
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (target == Place::past || source == Place::past)
    return failed(cudaErrorInvalidValue, std::string(call) + " past the end of device memory, bytes " + std::to_string(size));
  if (kind != cudaMemcpyDefault &&
      ((target == Place::device) != to_device || (source == Place::device) != from_device))
    return failed(cudaErrorInvalidValue, std::string(call) + " of kind " + std::to_string(kind) + " with memory of the other side");
  return cudaSuccess;
}

const char* kinds[] = {"host to host", "host to device", "device to host", "device to device", "default"};

cudaError_t copy(const char* call, void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  if (cudaError_t error = checked_copy(call, to, from, size, kind)) return error;
  bool made = noted(stream, std::string("copy, ") + kinds[kind]);
  if (made && kind != cudaMemcpyDeviceToDevice) memcpy(to, from, size);  // within the device it is the device's work
  Lock lock(mutex);
  launched[std::string("bytes, ") + kinds[kind]] += size;
  return cudaSuccess;
}

std::string words(Lock&, const std::map<std::string, long>& counts) {
  std::ostringstream out;
  for (auto& [name, count] : counts) out << count << '\t' << name << '\n';
  return out.str();
}

char* handed(const std::string& text) { return strdup(text.c_str()); }

}  // namespace

// ---- What the tests and measurements ask ----------------------------------------------------------------------------

SHOWN char* stub_take_launches() {
  Lock lock(mutex);
  char* result = handed(words(lock, launched));
  launched.clear();
  return result;
}

SHOWN char* stub_take_faults() {
  Lock lock(mutex);
  std::string text;
  for (auto& fault : faults) text += fault + '\n';
  faults.clear();
  return handed(text);
}

SHOWN size_t stub_peak_bytes() {
  Lock lock(mutex);
  size_t result = peak;
  peak = used;
  return result;
}

SHOWN void stub_free(char* text) { free(text); }

// ---- Registered kernels ---------------------------------------------------------------------------------------------

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
SHOWN cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(kernel, stream);
}
SHOWN cudaError_t cudaLaunchKernel(const void* function, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(function, stream);
}
SHOWN cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(function, stream);
}
SHOWN cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void**) {
  return launch(function, config->stream);
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

// ---- The device -----------------------------------------------------------------------------------------------------

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
SHOWN cudaError_t cudaDeviceSynchronize() { return refused_in_recording("cudaDeviceSynchronize"); }
SHOWN cudaError_t cudaGetLastError() {
  cudaError_t result = last;
  last = cudaSuccess;
  return result;
}
SHOWN cudaError_t cudaPeekAtLastError() { return last; }
SHOWN const char* cudaGetErrorName(cudaError_t error) { return error ? "cudaError of the stub" : "cudaSuccess"; }
SHOWN const char* cudaGetErrorString(cudaError_t error) {
  static thread_local std::string text;
  text = error ? "error " + std::to_string(error) + " of the stub" : "no error";
  return text.c_str();
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

SHOWN cudaError_t cudaMalloc(void** result, size_t size) {
  if (cudaError_t error = refused_in_recording("cudaMalloc")) return error;
  return allocate(result, size);
}
SHOWN cudaError_t cudaFree(void* pointer) {
  if (cudaError_t error = refused_in_recording("cudaFree")) return error;
  return release(pointer);
}
SHOWN cudaError_t cudaMallocAsync(void** result, size_t size, cudaStream_t) { return allocate(result, size); }
SHOWN cudaError_t cudaMallocFromPoolAsync(void** result, size_t size, cudaMemPool_t, cudaStream_t) { return allocate(result, size); }
SHOWN cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return release(pointer); }
SHOWN cudaError_t cudaHostAlloc(void** result, size_t size, unsigned) {
  *result = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  Lock lock(mutex);
  pinned[static_cast<char*>(*result)] = size;
  return cudaSuccess;
}
SHOWN cudaError_t cudaMallocHost(void** result, size_t size) { return cudaHostAlloc(result, size, 0); }
SHOWN cudaError_t cudaFreeHost(void* pointer) {
  Lock lock(mutex);
  if (!pinned.erase(static_cast<char*>(pointer))) return failed(cudaErrorInvalidValue, "cudaFreeHost of memory that is not there");
  free(pointer);
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemGetInfo(size_t* left, size_t* total) {
  Lock lock(mutex);
  *left = kMemory - used;
  *total = kMemory;
  return cudaSuccess;
}
SHOWN cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  Lock lock(mutex);
  bool device = place_of(pointer, 0) != Place::host;
  auto after = pinned.upper_bound(static_cast<char*>(const_cast<void*>(pointer)));
  bool locked = !device && after != pinned.begin() && pointer < std::prev(after)->first + std::prev(after)->second;
  attributes->type = device ? cudaMemoryTypeDevice : locked ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  attributes->devicePointer = device ? const_cast<void*>(pointer) : nullptr;
  attributes->hostPointer = device ? nullptr : const_cast<void*>(pointer);
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  if (cudaError_t error = refused_in_recording("cudaMemcpy")) return error;
  return copy("cudaMemcpy", to, from, size, kind, nullptr);
}
SHOWN cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy("cudaMemcpyAsync", to, from, size, kind, stream);
}
SHOWN cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                                    cudaMemcpyKind kind, cudaStream_t stream) {
  if (!width || !height) return cudaSuccess;
  if (cudaError_t error = checked_copy("cudaMemcpy2DAsync", to, from, 1, kind)) return error;
  if (place_of(to, to_pitch * (height - 1) + width) == Place::past || place_of(from, from_pitch * (height - 1) + width) == Place::past)
    return failed(cudaErrorInvalidValue, "cudaMemcpy2DAsync past the end of device memory");
  bool made = noted(stream, std::string("copy, ") + kinds[kind]);
  if (made && kind != cudaMemcpyDeviceToDevice)
    for (size_t row = 0; row < height; ++row)
      memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  Lock lock(mutex);
  launched[std::string("bytes, ") + kinds[kind]] += width * height;
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemcpy3DAsync(const cudaMemcpy3DParms* job, cudaStream_t stream) {
  auto [width, height, depth] = job->extent;
  if (!width || !height || !depth) return cudaSuccess;
  auto& from = job->srcPtr;
  auto& to = job->dstPtr;
  if (width > from.pitch || width > to.pitch || (depth > 1 && (height > from.ysize || height > to.ysize)))
    return failed(cudaErrorInvalidValue, "cudaMemcpy3DAsync of rows that are wider or more than their pitch says");
  auto reach = [&](const cudaPitchedPtr& side) { return side.pitch * (side.ysize * (depth - 1) + height - 1) + width; };
  if (cudaError_t error = checked_copy("cudaMemcpy3DAsync", to.ptr, from.ptr, 1, job->kind)) return error;
  if (place_of(to.ptr, reach(to)) == Place::past || place_of(from.ptr, reach(from)) == Place::past)
    return failed(cudaErrorInvalidValue, "cudaMemcpy3DAsync past the end of device memory");
  bool made = noted(stream, std::string("copy, ") + kinds[job->kind]);
  if (made && job->kind != cudaMemcpyDeviceToDevice)
    for (size_t plane = 0; plane < depth; ++plane)
      for (size_t row = 0; row < height; ++row)
        memmove(static_cast<char*>(to.ptr) + (plane * to.ysize + row) * to.pitch,
                static_cast<const char*>(from.ptr) + (plane * from.ysize + row) * from.pitch, width);
  Lock lock(mutex);
  launched[std::string("bytes, ") + kinds[job->kind]] += width * height * depth;
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemcpyFromSymbol(void*, const void*, size_t, size_t, cudaMemcpyKind) { return cudaSuccess; }
SHOWN cudaError_t cudaMemset(void* pointer, int value, size_t size) {
  if (place_of(pointer, size) != Place::device) return failed(cudaErrorInvalidValue, "cudaMemset of memory that is not the device's");
  memset(pointer, value, size);
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemsetAsync(void* pointer, int value, size_t size, cudaStream_t stream) {
  if (size && place_of(pointer, size) != Place::device)
    return failed(cudaErrorInvalidValue, "cudaMemsetAsync of memory that is not the device's");
  noted(stream, "memset");  // the device's work too
  return cudaSuccess;
}
SHOWN cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = reinterpret_cast<cudaMemPool_t>(size_t{64});
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = reinterpret_cast<cudaMemPool_t>(new int);
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
SHOWN cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
SHOWN cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  *static_cast<size_t*>(value) = 0;
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

// ---- Streams, events, recordings ------------------------------------------------------------------------------------

SHOWN cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Lock lock(mutex);
  auto* made = new Stream;
  streams.insert(made);
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}
SHOWN cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
SHOWN cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (!own) return failed(cudaErrorInvalidResourceHandle, "cudaStreamDestroy of a stream that is not there");
  streams.erase(own);
  delete own;
  return cudaSuccess;
}
SHOWN cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return refused_of_recorded("cudaStreamSynchronize", stream); }
SHOWN cudaError_t cudaStreamQuery(cudaStream_t stream) { return refused_of_recorded("cudaStreamQuery", stream); }
SHOWN cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
SHOWN cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (!own || own->recording) return failed(cudaErrorIllegalState, "cudaStreamBeginCapture of such a stream");
  own->recording = new Recording{mode, std::this_thread::get_id(), {}, false};
  return cudaSuccess;
}
SHOWN cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(thread_mode, *mode);
  return cudaSuccess;
}
SHOWN cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  *status = !own || !own->recording  ? cudaStreamCaptureStatusNone
            : own->recording->broken ? cudaStreamCaptureStatusInvalidated
                                     : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
SHOWN cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (!own || !own->recording) return failed(cudaErrorIllegalState, "cudaStreamEndCapture of a stream that is not recorded");
  Recording* made = own->recording;
  own->recording = nullptr;
  *graph = nullptr;
  if (made->broken) {
    delete made;
    return last = cudaErrorStreamCaptureInvalidated;
  }
  *graph = reinterpret_cast<cudaGraph_t>(made);
  ++launched["recordings"];
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Recording(*reinterpret_cast<Recording*>(graph)));
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Recording*>(graph);
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Recording*>(executable);
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
SHOWN cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  Lock lock(mutex);
  ++launched["replays"];
  launched["nodes replayed"] += reinterpret_cast<Recording*>(executable)->nodes.size();
  return cudaSuccess;
}
SHOWN cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new int);
  return cudaSuccess;
}
SHOWN cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
SHOWN cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<int*>(event);
  return cudaSuccess;
}
SHOWN cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
SHOWN cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
SHOWN cudaError_t cudaEventSynchronize(cudaEvent_t) { return refused_in_recording("cudaEventSynchronize"); }
SHOWN cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return cudaSuccess;
}

// ---- cuBLAS: each product is noted with its sizes and types ---------------------------------------------------------

namespace {

thread_local int math_mode = 0;
cudaStream_t product_stream = nullptr;  // one handle a thread would do; the provider has one for its one stream

struct Layout {
  int type;
  unsigned long long rows, columns;
};

int product(const std::string& name, long m, long n, long k, int a, int b, int c, long batch = 1) {
  std::ostringstream text;
  text << "product " << name << ' ' << m << 'x' << n << 'x' << k << " types " << a << ',' << b << ',' << c << " batch " << batch;
  noted(product_stream, text.str());
  return 0;
}

}  // namespace

SHOWN int cublasCreate_v2(void** handle) {
  *handle = new int;
  return 0;
}
SHOWN int cublasDestroy_v2(void*) { return 0; }
SHOWN int cublasSetStream_v2(void*, cudaStream_t stream) {
  product_stream = stream;
  return 0;
}
SHOWN int cublasSetMathMode(void*, int mode) {
  math_mode = mode;
  return 0;
}
SHOWN int cublasGetMathMode(void*, int* mode) {
  *mode = math_mode;
  return 0;
}
SHOWN const char* cublasGetStatusName(int) { return "status of the stub"; }
SHOWN const char* cublasGetStatusString(int) { return "status of the stub"; }
SHOWN int cublasGemmEx(void*, int, int, int m, int n, int k, const void*, const void*, int a, int, const void*, int b, int, const void*,
                       void*, int c, int, int, int) {
  return product("GemmEx", m, n, k, a, b, c);
}
SHOWN int cublasGemmStridedBatchedEx(void*, int, int, int m, int n, int k, const void*, const void*, int a, int, long long, const void*,
                                     int b, int, long long, const void*, void*, int c, int, long long, int batch, int, int) {
  return product("GemmStridedBatchedEx", m, n, k, a, b, c, batch);
}
SHOWN int cublasGemmBatchedEx(void*, int, int, int m, int n, int k, const void*, const void* const*, int a, int, const void* const*, int b,
                              int, const void*, void* const*, int c, int, int batch, int, int) {
  return product("GemmBatchedEx", m, n, k, a, b, c, batch);
}
SHOWN int cublasSgemm_v2(void*, int, int, int m, int n, int k, ...) { return product("Sgemm", m, n, k, 0, 0, 0); }
SHOWN int cublasDgemm_v2(void*, int, int, int m, int n, int k, ...) { return product("Dgemm", m, n, k, 1, 1, 1); }
SHOWN int cublasSgemmStridedBatched(void*, int, int, int m, int n, int k, const float*, const float*, int, long long, const float*, int,
                                    long long, const float*, float*, int, long long, int batch) {
  return product("SgemmStridedBatched", m, n, k, 0, 0, 0, batch);
}
SHOWN int cublasSgemmBatched(void*, int, int, int m, int n, int k, const float*, const float* const*, int, const float* const*, int,
                             const float*, float* const*, int, int batch) {
  return product("SgemmBatched", m, n, k, 0, 0, 0, batch);
}
SHOWN int cublasDgemmStridedBatched(...) { return product("DgemmStridedBatched", 0, 0, 0, 1, 1, 1); }
SHOWN int cublasDgemmBatched(...) { return product("DgemmBatched", 0, 0, 0, 1, 1, 1); }
SHOWN int cublasSgeam(...) { return product("Sgeam", 0, 0, 0, 0, 0, 0); }
SHOWN int cublasDgeam(...) { return product("Dgeam", 0, 0, 0, 1, 1, 1); }
SHOWN int cublasSscal_v2(...) { return 0; }
SHOWN int cublasScopy_v2(...) { return 0; }
SHOWN int cublasDgetrfBatched(...) { return 0; }
SHOWN int cublasDgetriBatched(...) { return 0; }
SHOWN int cublasSgetrfBatched(...) { return 0; }
SHOWN int cublasSgetriBatched(...) { return 0; }
SHOWN int cublasLtCreate(void** handle) {
  *handle = new int;
  return 0;
}
SHOWN int cublasLtDestroy(void*) { return 0; }
SHOWN int cublasLtMatrixLayoutCreate(void** layout, int type, unsigned long long rows, unsigned long long columns, long long) {
  *layout = new Layout{type, rows, columns};
  return 0;
}
SHOWN int cublasLtMatrixLayoutDestroy(void* layout) {
  delete static_cast<Layout*>(layout);
  return 0;
}
SHOWN int cublasLtMatrixLayoutSetAttribute(...) { return 0; }
SHOWN int cublasLtMatmulDescCreate(void** description, int, int) {
  *description = new int;
  return 0;
}
SHOWN int cublasLtMatmulDescDestroy(void* description) {
  delete static_cast<int*>(description);
  return 0;
}
SHOWN int cublasLtMatmulDescSetAttribute(...) { return 0; }
SHOWN int cublasLtMatmulPreferenceCreate(void** preference) {
  *preference = new int;
  return 0;
}
SHOWN int cublasLtMatmulPreferenceDestroy(void* preference) {
  delete static_cast<int*>(preference);
  return 0;
}
SHOWN int cublasLtMatmulPreferenceSetAttribute(...) { return 0; }
SHOWN int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int wanted, void* results, int* found) {
  memset(results, 0, 104);  // one cublasLtMatmulHeuristicResult_t: an algorithm of 64 bytes, workspace, state, waves, reserved
  *found = wanted > 0;
  return 0;
}
SHOWN int cublasLtMatmulAlgoInit(...) { return 0; }
SHOWN int cublasLtMatmulAlgoConfigSetAttribute(...) { return 0; }
SHOWN int cublasLtMatmul(void*, void*, const void*, const void*, void* a, const void*, void* b, const void*, const void*, void*, void*,
                         void* d, const void*, void*, size_t, cudaStream_t stream) {
  auto *left = static_cast<Layout*>(a), *right = static_cast<Layout*>(b), *out = static_cast<Layout*>(d);
  product_stream = stream;
  // In a product with the first matrix transposed, as fp8 needs it, k is its rows.
  return product("LtMatmul", out->rows, out->columns, left->rows == out->rows ? left->columns : left->rows, left->type, right->type, out->type);
}
SHOWN int cublasLtMatrixTransformDescCreate(void** description, int) {
  *description = new int;
  return 0;
}
SHOWN int cublasLtMatrixTransformDescDestroy(void* description) {
  delete static_cast<int*>(description);
  return 0;
}
SHOWN int cublasLtMatrixTransform(...) { return 0; }

// ---- cuDNN: ONNX Runtime finds it by name, and asks for a handle of it before it computes -----------------------------

namespace {
cudaStream_t dnn_stream = nullptr;
int dnn_made(void** made) {
  *made = new int;
  return 0;
}
constexpr int kNotSupported = 3000;
}  // namespace

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
MAKES(cudnnCreate)
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

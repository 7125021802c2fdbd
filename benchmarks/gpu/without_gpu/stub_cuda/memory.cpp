// Memory of the device, which is the host's, pinned memory, and copies, which are made as CUDA would.

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "stub.h"

using namespace stub;

namespace {

std::map<char*, size_t> memory, pinned;
std::multimap<size_t, char*> freed;
size_t used = 0, locked_bytes = 0;
const char* kinds[] = {"host to host", "host to device", "device to host", "device to device", "default"};

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

// Zeros again: no kernel writes answers, which are read all the same. Whole pages are given back instead.
void clear(char* start, size_t size) {
  constexpr size_t kPage = 4096;
  auto aligned = [](char* place) { return reinterpret_cast<char*>((reinterpret_cast<size_t>(place) + kPage - 1) / kPage * kPage); };
  char *end = start + size, *first = aligned(start), *last = aligned(end) - (aligned(end) > end ? kPage : 0);
  if (size < 16 * kPage || madvise(first, last - first, MADV_DONTNEED)) {
    memset(start, 0, size);
    return;
  }
  memset(start, 0, first - start);
  memset(last, 0, end - last);
}

void* allocated(size_t size) {
  Lock lock(mutex);
  if (used + size > kMemory) return nullptr;
  char* made = reserved(rounded(size));
  if (!made) return nullptr;
  memory[made] = size;
  used += size;
  return made;
}

cudaError_t allocate(const char* call, void** result, size_t size) {
  if (cudaError_t error = entered(call)) return error;
  *result = allocated(size);
  return *result ? cudaSuccess : (last = cudaErrorMemoryAllocation);
}

cudaError_t release(const char* call, void* pointer) {
  cudaError_t told = entered(call);  // of a lost device, whose memory counts as given back once that is asked for
  if (!pointer) return told;
  Lock lock(mutex);
  auto found = memory.find(static_cast<char*>(pointer));
  if (found == memory.end()) return failed(cudaErrorInvalidValue, "free of memory that is not there");
  used -= found->second;
  clear(found->first, rounded(found->second));
  freed.emplace(rounded(found->second), found->first);
  memory.erase(found);
  return told;
}

cudaError_t checked_copy(const char* call, void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  if (cudaError_t error = entered(call)) return error;
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

cudaError_t copy(const char* call, void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  if (cudaError_t error = checked_copy(call, to, from, size, kind)) return error;
  std::string name = std::string("copy, ") + kinds[kind];
  bool made = noted(stream, name);
  if (made && kind != cudaMemcpyDeviceToDevice)  // within the device it is the device's work
    memcpy(to, from, size);
  else if (!made && kind != cudaMemcpyDeviceToDevice)
    note_fault(name + ", in a recording behind " + node_before(stream) + ": a replay copies what the host has there then");
  Lock lock(mutex);
  launched[std::string("bytes, ") + kinds[kind]] += size;
  return cudaSuccess;
}

}  // namespace

namespace stub {

Place place_of(const void* pointer, size_t size) {
  Lock lock(mutex);
  auto* start = static_cast<char*>(const_cast<void*>(pointer));
  auto after = memory.upper_bound(start);
  if (after == memory.begin()) return Place::host;
  auto [base, length] = *std::prev(after);
  if (start >= base + std::max(length, size_t{1})) return Place::host;
  return start + size <= base + length ? Place::device : Place::past;
}

size_t used_bytes() { return used; }

size_t pinned_bytes() { return locked_bytes; }

}  // namespace stub

SHOWN cudaError_t cudaMalloc(void** result, size_t size) {
  if (cudaError_t error = refused_in_recording("cudaMalloc")) return error;
  return allocate("cudaMalloc", result, size);
}
SHOWN cudaError_t cudaFree(void* pointer) {
  if (cudaError_t error = refused_in_recording("cudaFree")) return error;
  return release("cudaFree", pointer);
}
SHOWN cudaError_t cudaMallocAsync(void** result, size_t size, cudaStream_t) {
  return allocate("cudaMallocAsync", result, size);
}
SHOWN cudaError_t cudaMallocFromPoolAsync(void** result, size_t size, cudaMemPool_t, cudaStream_t) {
  return allocate("cudaMallocAsync", result, size);
}
SHOWN cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return release("cudaFreeAsync", pointer); }
SHOWN cudaError_t cudaHostAlloc(void** result, size_t size, unsigned) {
  if (cudaError_t error = entered("cudaHostAlloc")) return error;
  *result = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  Lock lock(mutex);
  pinned[static_cast<char*>(*result)] = size;
  locked_bytes += size;
  return cudaSuccess;
}
SHOWN cudaError_t cudaMallocHost(void** result, size_t size) { return cudaHostAlloc(result, size, 0); }
SHOWN cudaError_t cudaFreeHost(void* pointer) {
  if (!pointer) return cudaSuccess;
  Lock lock(mutex);
  auto found = pinned.find(static_cast<char*>(pointer));
  if (found == pinned.end()) return failed(cudaErrorInvalidValue, "cudaFreeHost of memory that is not there");
  locked_bytes -= found->second;
  pinned.erase(found);
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
  if (cudaError_t error = entered("cudaMemset")) return error;
  if (place_of(pointer, size) != Place::device) return failed(cudaErrorInvalidValue, "cudaMemset of memory that is not the device's");
  memset(pointer, value, size);
  return cudaSuccess;
}
SHOWN cudaError_t cudaMemsetAsync(void* pointer, int, size_t size, cudaStream_t stream) {
  if (cudaError_t error = entered("cudaMemsetAsync")) return error;
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

// What the parts of the stub share: memory that is allocated, what was launched, what was refused, what is to fail.
//
// Stricter than a GPU where that finds faults: a copy from or to memory that was not allocated, or past its end, is an
// error with its reason (`stub_take_faults`).
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#define SHOWN extern "C" __attribute__((visibility("default")))

namespace stub {

constexpr size_t kMemory = size_t{140} << 30;  // of an H200

using Lock = std::lock_guard<std::recursive_mutex>;
extern std::recursive_mutex mutex;
extern thread_local cudaError_t last;

// ---- counts.cpp: what the tests ask, and make fail

extern std::map<std::string, long> launched;
extern std::map<std::string, long> alive;  // streams, events, recordings: what has to be destroyed

// Notes what a test is to be told of.
void note_fault(const std::string& reason);

// Notes a refusal with its reason, and gives its error back.
cudaError_t failed(cudaError_t error, const std::string& reason);

// What a call begins with: the error that it was told to answer, or that of a device that is lost.
cudaError_t entered(const char* call);

// The same for what a device does after the call: a fault that loses the device is told by the calls that follow.
cudaError_t enqueued(const char* call);

// ---- memory.cpp

enum class Place { host, device, past };
Place place_of(const void* pointer, size_t size);
size_t used_bytes();
size_t pinned_bytes();

// ---- streams.cpp

struct Recording {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  std::vector<std::string> nodes;
  bool broken = false;
};

// What this thread may not do while it records a stream, and none while another records in CUDA's global mode but those
// that said to stand apart.
cudaError_t refused_in_recording(const char* call);

// Names the node before the last of the stream's recording.
std::string node_before(cudaStream_t stream);

// Notes a node of the stream's recording, or work that is done at once; true where it is done at once.
bool noted(cudaStream_t stream, const std::string& name);

}  // namespace stub

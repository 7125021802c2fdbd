// What the tests and measurements ask of the stub, and what they make it fail.

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "stub.h"

namespace stub {

std::recursive_mutex mutex;
thread_local cudaError_t last = cudaSuccess;
std::map<std::string, long> launched, alive;

namespace {

struct Failing {
  cudaError_t error;
  long after;  // calls that go well before it
};

std::vector<std::string> faults;
cudaError_t lost = cudaSuccess;  // what a lost device answers to every call

// CALL:ERROR:AFTER,... of the environment, for a process that nobody can call into.
std::map<std::string, Failing> failing_by_environment() {
  std::map<std::string, Failing> result;
  const char* told = getenv("STUB_CUDA_FAIL");
  std::istringstream parts(told ? told : "");
  for (std::string part; std::getline(parts, part, ',');) {
    std::istringstream fields(part);
    std::string call, error, after = "0";
    std::getline(fields, call, ':');
    std::getline(fields, error, ':');
    std::getline(fields, after, ':');
    result[call] = {static_cast<cudaError_t>(std::stoi(error)), std::stol(after)};
  }
  return result;
}

std::map<std::string, Failing> failing = failing_by_environment();

// Errors that a context does not get over.
bool loses(cudaError_t error) {
  return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure || error == cudaErrorECCUncorrectable ||
         error == cudaErrorLaunchTimeout || error == cudaErrorMisalignedAddress || error == cudaErrorHardwareStackError;
}

// The fault of this call; success where there is none, or not yet.
cudaError_t taken(const char* call) {
  auto found = failing.find(call);
  if (found == failing.end() || found->second.after-- > 0) return cudaSuccess;
  cudaError_t error = found->second.error;
  if (loses(error)) lost = error;
  return error;
}

std::string lines(const std::map<std::string, long>& counts) {
  std::ostringstream out;
  for (auto& [name, count] : counts)
    if (count) out << count << '\t' << name << '\n';
  return out.str();
}

char* handed(const std::string& text) { return strdup(text.c_str()); }

}  // namespace

void note_fault(const std::string& reason) {
  Lock lock(mutex);
  faults.push_back(reason);
}

cudaError_t failed(cudaError_t error, const std::string& reason) {
  note_fault(reason);
  return last = error;
}

cudaError_t entered(const char* call) {
  Lock lock(mutex);
  if (lost) return last = lost;
  cudaError_t error = taken(call);
  return error ? last = error : cudaSuccess;
}

cudaError_t enqueued(const char* call) {
  Lock lock(mutex);
  if (lost) return last = lost;
  cudaError_t error = taken(call);
  return error && !lost ? last = error : cudaSuccess;
}

}  // namespace stub

using namespace stub;

SHOWN char* stub_take_launches() {
  Lock lock(mutex);
  char* result = handed(lines(launched));
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

SHOWN char* stub_alive() {
  Lock lock(mutex);
  auto result = alive;
  result["bytes of the device"] = used_bytes();
  result["bytes of pinned memory"] = pinned_bytes();
  return handed(lines(result));
}

// The call answers `error` from then on that `after` of it went well. `cudaLaunchKernel` stands for launches of every form.
SHOWN void stub_fail(const char* call, int error, long after) {
  Lock lock(mutex);
  failing[call] = {static_cast<cudaError_t>(error), after};
}

// Nothing is to fail any more, and a device that was lost is there again.
SHOWN void stub_recover() {
  Lock lock(mutex);
  failing.clear();
  lost = last = cudaSuccess;
}

SHOWN void stub_free(char* text) { free(text); }

SHOWN cudaError_t cudaGetLastError() {
  cudaError_t result = last;
  last = lost;
  return result;
}
SHOWN cudaError_t cudaPeekAtLastError() { return last; }
SHOWN const char* cudaGetErrorName(cudaError_t error) { return error ? "cudaError of the stub" : "cudaSuccess"; }
SHOWN const char* cudaGetErrorString(cudaError_t error) {
  static const std::map<int, const char*> words{
      {cudaSuccess, "no error"},
      {cudaErrorInvalidValue, "invalid argument"},
      {cudaErrorMemoryAllocation, "out of memory"},
      {cudaErrorIllegalAddress, "an illegal memory access was encountered"},
      {cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"},
      {cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"},
  };
  auto found = words.find(error);
  return found == words.end() ? "an error of the stub" : found->second;
}

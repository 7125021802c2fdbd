// Streams, events, and recordings: CUDA graphs, whose nodes are names.

#include <set>
#include <utility>

#include "stub.h"

using namespace stub;

namespace {

struct Stream {
  Recording* recording = nullptr;
};

std::set<Stream*> streams;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;  // what recordings of others forbid it

Stream* stream_of(cudaStream_t stream) {
  auto* own = reinterpret_cast<Stream*>(stream);
  return streams.count(own) ? own : nullptr;
}

// What waits for a stream that is recorded would wait for ever.
cudaError_t refused_of_recorded(const char* call, cudaStream_t stream) {
  Lock lock(mutex);
  if (cudaError_t error = entered(call)) return error;
  Stream* own = stream_of(stream);
  if (!own || !own->recording) return cudaSuccess;
  own->recording->broken = true;
  return failed(cudaErrorStreamCaptureUnsupported, std::string(call) + " of a stream that is recorded");
}

cudaGraphExec_t executable_of(const Recording& recording) {
  Lock lock(mutex);
  ++alive["recordings"];
  return reinterpret_cast<cudaGraphExec_t>(new Recording(recording));
}

}  // namespace

namespace stub {

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

std::string node_before(cudaStream_t stream) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (!own || !own->recording || own->recording->nodes.size() < 2) return "nothing";
  return own->recording->nodes.end()[-2];
}

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

}  // namespace stub

SHOWN cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Lock lock(mutex);
  if (cudaError_t error = entered("cudaStreamCreateWithFlags")) return error;
  auto* made = new Stream;
  streams.insert(made);
  ++alive["streams"];
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}
SHOWN cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
SHOWN cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(mutex);
  Stream* own = stream_of(stream);
  if (!own) return failed(cudaErrorInvalidResourceHandle, "cudaStreamDestroy of a stream that is not there");
  streams.erase(own);
  --alive["streams"];
  delete own;
  return cudaSuccess;
}
SHOWN cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return refused_of_recorded("cudaStreamSynchronize", stream); }
SHOWN cudaError_t cudaStreamQuery(cudaStream_t stream) { return refused_of_recorded("cudaStreamQuery", stream); }
SHOWN cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
SHOWN cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Lock lock(mutex);
  if (cudaError_t error = entered("cudaStreamBeginCapture")) return error;
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
  if (cudaError_t error = made->broken ? last = cudaErrorStreamCaptureInvalidated : entered("cudaStreamEndCapture")) {
    delete made;
    return error;
  }
  *graph = reinterpret_cast<cudaGraph_t>(made);
  ++launched["recordings"];
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (cudaError_t error = entered("cudaGraphInstantiate")) return error;
  *executable = executable_of(*reinterpret_cast<Recording*>(graph));
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Recording*>(graph);
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Lock lock(mutex);
  --alive["recordings"];
  delete reinterpret_cast<Recording*>(executable);
  return cudaSuccess;
}
SHOWN cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
SHOWN cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  Lock lock(mutex);
  if (cudaError_t error = enqueued("cudaGraphLaunch")) return error;
  ++launched["replays"];
  launched["nodes replayed"] += reinterpret_cast<Recording*>(executable)->nodes.size();
  return cudaSuccess;
}
SHOWN cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (cudaError_t error = entered("cudaEventCreateWithFlags")) return error;
  Lock lock(mutex);
  ++alive["events"];
  *event = reinterpret_cast<cudaEvent_t>(new int);
  return cudaSuccess;
}
SHOWN cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
SHOWN cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock(mutex);
  --alive["events"];
  delete reinterpret_cast<int*>(event);
  return cudaSuccess;
}
SHOWN cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return entered("cudaEventRecord"); }
SHOWN cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
SHOWN cudaError_t cudaEventSynchronize(cudaEvent_t) {
  if (cudaError_t error = entered("cudaEventSynchronize")) return error;
  return refused_in_recording("cudaEventSynchronize");
}
SHOWN cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return cudaSuccess;
}

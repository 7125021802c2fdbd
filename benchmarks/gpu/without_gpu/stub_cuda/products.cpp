// cuBLAS: each product is noted with its sizes and types.

#include <cstring>
#include <sstream>

#include "stub.h"

using namespace stub;

namespace {

thread_local int math_mode = 0;
cudaStream_t product_stream = nullptr;  // one handle a thread would do; the provider has one for its one stream

struct Layout {
  int type;
  unsigned long long rows, columns;
};

int product(const std::string& name, long m, long n, long k, int a, int b, int c, long batch = 1) {
  constexpr int failed = 13;  // CUBLAS_STATUS_EXECUTION_FAILED
  if (enqueued("cublas")) return failed;
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
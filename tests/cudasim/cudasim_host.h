// The part of CUDA's host API that the plug-in uses. SPDX-License-Identifier: MIT
#ifndef CUDASIM_HOST_H
#define CUDASIM_HOST_H

// The errors that the simulator returns, with CUDA's numbers and texts.
#define CUDASIM_ERRORS(ERROR)                                                        \
    ERROR(cudaSuccess, 0, "no error")                                                \
    ERROR(cudaErrorInvalidValue, 1, "invalid argument")                              \
    ERROR(cudaErrorMemoryAllocation, 2, "out of memory")                             \
    ERROR(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")        \
    ERROR(cudaErrorInsufficientDriver, 35,                                           \
          "CUDA driver version is insufficient for CUDA runtime version")            \
    ERROR(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")              \
    ERROR(cudaErrorInvalidDevice, 101, "invalid device ordinal")                     \
    ERROR(cudaErrorNoKernelImageForDevice, 209,                                      \
          "no kernel image is available for execution on the device")                \
    ERROR(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")            \
    ERROR(cudaErrorNotReady, 600, "device not ready")                                \
    ERROR(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")  \
    ERROR(cudaErrorHostMemoryAlreadyRegistered, 712,                                 \
          "part or all of the requested memory range is already mapped")             \
    ERROR(cudaErrorHostMemoryNotRegistered, 713,                                     \
          "pointer does not correspond to a registered memory region")               \
    ERROR(cudaErrorStreamCaptureUnsupported, 900,                                    \
          "operation not permitted when stream is capturing")                        \
    ERROR(cudaErrorStreamCaptureUnmatched, 903,                                      \
          "operation cannot end a capture that it did not begin")                    \
    ERROR(cudaErrorStreamCaptureUnjoined, 904, "capturing stream has unjoined work") \
    ERROR(cudaErrorStreamCaptureIsolation, 905,                                      \
          "dependency created on uncaptured work in another stream")                 \
    ERROR(cudaErrorStreamCaptureImplicit, 906,                                       \
          "operation would make the legacy stream depend on a capturing blocking stream")
enum cudaError_t {
#define ERROR(name, number, text) name = number,
    CUDASIM_ERRORS(ERROR)
#undef ERROR
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault,
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock,
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor,
    cudaDevAttrMaxSharedMemoryPerBlock,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor,
    cudaDevAttrL2CacheSize,
    cudaDevAttrMaxPersistingL2CacheSize,
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed,
};
enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated,
};
enum {
    cudaStreamDefault = 0,
    cudaStreamNonBlocking = 1,
    cudaEventDefault = 0,
    cudaEventBlockingSync = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0,
    cudaHostRegisterDefault = 0,
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
    int major, minor, multiProcessorCount, maxThreadsPerBlock, maxThreadsPerMultiProcessor;
    int regsPerBlock, warpSize, l2CacheSize;
};

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);

cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void *memory);
template <class T> cudaError_t cudaMalloc(T **memory, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(memory), bytes);
}
template <class T> cudaError_t cudaMallocHost(T **memory, size_t bytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(memory), bytes);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *to, int byte, size_t bytes);
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream = nullptr);
template <class T>
cudaError_t cudaMemcpyToSymbol(T &symbol, const void *from, size_t bytes, size_t offset = 0)
{
    if (offset > sizeof symbol || bytes > sizeof symbol - offset)
        return cudaErrorInvalidValue;
    const cudaError_t error = cudaDeviceSynchronize();
    if (error == cudaSuccess)
        memcpy(const_cast<char *>(reinterpret_cast<const char *>(&symbol)) + offset, from, bytes);
    return error;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

namespace cudasim
{
cudaError_t allow_shared(const void *kernel, cudaFuncAttribute attribute, int value);
int resident_blocks(int threads, size_t shared);
} // namespace cudasim
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value)
{
    return cudasim::allow_shared(reinterpret_cast<const void *>(kernel), attribute, value);
}
template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void (*)(P...), int threads,
                                                          size_t shared)
{
    *blocks = cudasim::resident_blocks(threads, shared);
    return cudaSuccess;
}

#endif

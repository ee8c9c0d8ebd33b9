// Streams, events and graphs. SPDX-License-Identifier: MIT
//
// Every operation is a piece of work that depends on others. It is done immediately, or when a call
// waits for it (CUDASIM_STREAMS=lazy), or it is captured into a graph, whose launch does its work
// in a random order that the dependences allow.
#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "sim.h"

namespace
{
struct work {
    std::function<void()> run;
    std::vector<std::shared_ptr<work>> after;
    bool done = false;
};
using work_ptr = std::shared_ptr<work>;

struct step {
    std::function<void()> run;
    std::vector<size_t> after;
};

struct captured {
    std::vector<work_ptr> nodes;
    std::vector<cudaStream_t> streams; // the first one began the capture
    bool ended = false;
};
using captured_ptr = std::shared_ptr<captured>;
} // namespace

struct CUstream_st {
    bool blocking;               // the default stream waits for this one
    work_ptr last;               // the last work that was issued or captured
    std::vector<work_ptr> waits; // the next operation comes after these too
    captured_ptr capture;        // NULL if it isn't capturing
    work_ptr before;             // `last` and `waits` before the capture
    std::vector<work_ptr> waits_before;
    unsigned pending; // operations issued but not done, with lazy streams
};
struct CUgraph_st {
    captured_ptr content;
};
struct CUgraphExec_st {
    std::shared_ptr<std::vector<step>> steps;
};
struct CUevent_st {
    work_ptr at;
    captured_ptr capture; // the capture that `at` belongs to, or NULL
    std::shared_ptr<double> time;
};

namespace cudasim
{
static CUstream_st &default_stream = *new CUstream_st();
static auto &streams = *new std::vector<cudaStream_t>;
static int captures;

bool capturing()
{
    return captures > 0;
}

bool lazy()
{
    const char *mode = getenv("CUDASIM_STREAMS");
    return mode && strcmp(mode, "lazy") == 0;
}

static void perform(const work_ptr &w)
{
    if (!w || w->done)
        return;
    w->done = true;
    std::vector<work_ptr> after = std::move(w->after);
    w->after.clear();
    if (after.size() > 1 && random_below(2))
        std::reverse(after.begin(), after.end());
    for (const work_ptr &earlier : after)
        perform(earlier);
    if (!broken())
        w->run();
    w->run = nullptr;
}

static void finish_stream(cudaStream_t stream)
{
    for (const work_ptr &w : stream->waits)
        perform(w);
    perform(stream->last);
    stream->pending = 0;
}

// A query of lazy work finds it done with a chance of 1 in 4, so that polling ends.
static bool query_succeeds()
{
    return random_below(4) == 0;
}

static void finish_streams(bool blocking_only)
{
    const size_t first = streams.empty() ? 0 : random_below(streams.size());
    for (size_t i = 0; i < streams.size(); i++) {
        cudaStream_t stream = streams[(first + i) % streams.size()];
        if (!stream->capture && (stream->blocking || !blocking_only))
            finish_stream(stream);
    }
}

void finish_all()
{
    finish_streams(false);
}

cudaError_t issue(cudaStream_t stream, std::function<void()> run)
{
    if (broken())
        return broken();
    if (!stream && capturing())
        return cudaErrorStreamCaptureImplicit;
    if (!stream) {
        finish_streams(true);
        stream = &default_stream;
    }
    work_ptr w = std::make_shared<work>();
    w->run = std::move(run);
    w->after = std::move(stream->waits);
    stream->waits.clear();
    if (stream->last && !stream->last->done)
        w->after.push_back(stream->last);
    stream->last = w;
    if (stream->capture)
        stream->capture->nodes.push_back(w);
    else if (stream == &default_stream || !lazy())
        perform(w);
    else if (++stream->pending == 1000) // as a device would start the work at some time
        finish_stream(stream);
    return broken();
}

static double now_ms()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

// Runs the steps in a random order that their dependences allow.
static void run_steps(const std::vector<step> &steps)
{
    std::vector<char> done(steps.size());
    std::vector<size_t> left(steps.size()), ready;
    for (size_t i = 0; i < steps.size(); i++)
        left[i] = i;
    while (!left.empty()) {
        ready.clear();
        for (size_t i : left)
            if (std::all_of(steps[i].after.begin(), steps[i].after.end(),
                            [&](size_t earlier) { return done[earlier]; }))
                ready.push_back(i);
        const size_t next = ready[random_below(ready.size())];
        if (!broken())
            steps[next].run();
        done[next] = true;
        left.erase(std::find(left.begin(), left.end(), next));
    }
}

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                        cudaStream_t stream, bool wait)
{
    if (const cudaError_t error = memory_copy_check(to, from, bytes, kind))
        return error;
    const auto transfer = [=](const void *source) {
        memory_open();
        memmove(to, source, bytes);
        memory_close();
    };
    const bool recorded = stream && stream->capture;
    // Pageable host memory is read, or written, before the call returns.
    if (lazy() && !recorded && !is_device(from, 0) && !is_pinned(from, bytes)) {
        const auto staged = std::make_shared<std::vector<char>>(
            static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
        return issue(stream, [=] { transfer(staged->data()); });
    }
    const cudaError_t error = issue(stream, [=] { transfer(from); });
    if (wait || (!recorded && !is_device(to, 0) && !is_pinned(to, bytes)))
        finish_stream(stream ? stream : &default_stream);
    return error ? error : broken();
}

// Earlier work of the stream is not part of the capture, but precedes all launches of its graph.
static void enter_capture(cudaStream_t stream, const captured_ptr &capture)
{
    stream->capture = capture;
    capture->streams.push_back(stream);
    stream->before = std::move(stream->last);
    stream->waits_before = std::move(stream->waits);
    stream->last = nullptr;
    stream->waits.clear();
}
} // namespace cudasim

using namespace cudasim;

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    const call c;
    return result(copy(to, from, bytes, kind, stream, false));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    const call c;
    return result(copy(to, from, bytes, kind, nullptr, true));
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream)
{
    const call c;
    if (!is_device(to, bytes))
        return result(cudaErrorInvalidValue);
    return result(issue(stream, [=] {
        memory_open();
        memset(to, byte, bytes);
        memory_close();
    }));
}

cudaError_t cudaMemset(void *to, int byte, size_t bytes)
{
    return cudaMemsetAsync(to, byte, bytes, nullptr);
}

cudaError_t cudaDeviceSynchronize()
{
    const call c;
    if (capturing())
        return result(cudaErrorStreamCaptureUnsupported);
    finish_all();
    return result(broken());
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    const call c;
    if (broken())
        return result(broken());
    *stream = new CUstream_st();
    (*stream)->blocking = !(flags & cudaStreamNonBlocking);
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const call c;
    const auto found = std::find(streams.begin(), streams.end(), stream);
    if (found == streams.end())
        return result(cudaErrorInvalidResourceHandle);
    if (stream->capture)
        return result(cudaErrorStreamCaptureUnsupported);
    finish_stream(stream);
    streams.erase(found);
    delete stream;
    return result(broken());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    const call c;
    if (capturing())
        return result(cudaErrorStreamCaptureUnsupported);
    if (stream)
        finish_stream(stream);
    else
        finish_streams(true);
    return result(broken());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    const call c;
    if (broken())
        return result(broken());
    if (stream && stream->capture)
        return result(cudaErrorStreamCaptureUnsupported);
    if (stream && query_succeeds())
        finish_stream(stream);
    return stream && stream->last && !stream->last->done ? cudaErrorNotReady : broken();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    const call c;
    if (!stream)
        stream = &default_stream;
    if (!event->at)
        return result(broken());
    if (event->capture && !stream->capture && !event->capture->ended) {
        // Waiting for the event makes the stream part of the capture.
        enter_capture(stream, event->capture);
    }
    if (event->capture != stream->capture)
        return result(cudaErrorStreamCaptureIsolation);
    if (!event->at->done)
        stream->waits.push_back(event->at);
    return result(broken());
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    const call c;
    if (broken())
        return result(broken());
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    const call c;
    delete event;
    return result(broken());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    const call c;
    const auto time = std::make_shared<double>();
    const cudaError_t error = issue(stream, [=] { *time = now_ms(); });
    if (error == cudaSuccess) {
        event->time = time;
        event->at = (stream ? stream : &default_stream)->last;
        event->capture = stream ? stream->capture : nullptr;
    }
    return result(error);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const call c;
    if (event->capture)
        return result(cudaErrorStreamCaptureUnsupported);
    perform(event->at);
    return result(broken());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const call c;
    if (broken())
        return result(broken());
    if (event->capture)
        return result(cudaErrorStreamCaptureUnsupported);
    if (query_succeeds())
        perform(event->at);
    return event->at && !event->at->done ? cudaErrorNotReady : broken();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    const call c;
    if (!start->at || !end->at)
        return result(cudaErrorInvalidResourceHandle);
    if (!start->at->done || !end->at->done)
        return result(cudaErrorNotReady);
    *ms = static_cast<float>(*end->time - *start->time);
    return result(broken());
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    const call c;
    if (broken() || !stream || stream->capture)
        return result(broken() ? broken() : cudaErrorStreamCaptureUnsupported);
    enter_capture(stream, std::make_shared<captured>());
    captures++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    const call c;
    *graph = nullptr;
    if (!stream || !stream->capture || stream->capture->streams[0] != stream)
        return result(cudaErrorStreamCaptureUnmatched);
    const captured_ptr content = stream->capture;
    // Everything that was captured must precede this point of the stream.
    std::vector<work_ptr> reached = stream->waits;
    if (stream->last)
        reached.push_back(stream->last);
    for (size_t i = 0; i < reached.size(); i++)
        for (const work_ptr &earlier : reached[i]->after)
            if (std::find(reached.begin(), reached.end(), earlier) == reached.end())
                reached.push_back(earlier);
    const bool joined =
        std::all_of(content->nodes.begin(), content->nodes.end(), [&](const work_ptr &node) {
            return std::find(reached.begin(), reached.end(), node) != reached.end();
        });
    for (cudaStream_t s : content->streams) {
        s->capture = nullptr;
        s->last = std::move(s->before);
        s->waits = std::move(s->waits_before);
        s->before = nullptr;
        s->waits_before.clear();
    }
    content->ended = true;
    captures--;
    if (!joined)
        return result(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{content};
    return result(broken());
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    const call c;
    *status =
        stream && stream->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return result(broken());
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    const call c;
    if (broken())
        return result(broken());
    std::map<work *, size_t> number;
    const auto steps = std::make_shared<std::vector<step>>();
    for (const work_ptr &node : graph->content->nodes) {
        step s = {node->run, {}};
        for (const work_ptr &earlier : node->after)
            s.after.push_back(number.at(earlier.get()));
        number[node.get()] = steps->size();
        steps->push_back(std::move(s));
    }
    *exec = new CUgraphExec_st{steps};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const call c;
    const auto steps = exec->steps;
    return result(issue(stream, [steps] { run_steps(*steps); }));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    const call c;
    delete exec;
    return result(broken());
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    const call c;
    for (const work_ptr &node : graph->content->nodes) { // which events may still refer to
        node->run = nullptr;
        node->after.clear();
    }
    delete graph;
    return result(broken());
}

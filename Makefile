# Everything is built under build/; nothing else in the tree changes. `make help` lists the targets.
# SPDX-License-Identifier: MIT

CC       ?= cc
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
DESTDIR  ?=
JOBS     ?= $(shell nproc)
CPPFLAGS ?=
# WERROR=1 makes warnings errors, as the project's own checks do. A newer compiler may know more
# warnings, and a user's build shall not fail for them.
WERROR   ?=
# SAN=address,undefined builds everything with those sanitizers, in a folder of its own.
SAN     ?=
CFLAGS  ?= $(if $(SAN),-O1,-O3) -g
B       := build$(if $(SAN),/san)

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif

PACKAGES := libjpeg libpng zlib libzstd jansson
WARNINGS := -Wall -Wextra $(if $(WERROR),-Werror) -Wshadow -Wvla -Wstrict-prototypes \
            -Wmissing-prototypes
COMMON   := -std=c11 -D_GNU_SOURCE -I. -pthread -MMD -MP $(WARNINGS) $(CPPFLAGS) \
            $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
# Kernels may reorder sums and ignore errno; results stay independent of the number of threads.
# A loop that clang leaves scalar in spite of its pragma is slow there, not wrong.
KERNEL    = -fno-math-errno -fno-trapping-math $(if $(filter __clang__,$(MACROS)),-Wno-pass-failed)

NEEDS_PACKAGES := $(filter-out help clean deps install-deps demo check check-more,$(or $(MAKECMDGOALS),all))
ifneq ($(NEEDS_PACKAGES),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
ifeq ($(PKG_LIBS),)
$(error Missing libraries among: $(PACKAGES). On Debian and Ubuntu `make install-deps` installs them)
endif
endif

# Libraries for further kinds of pictures, and for archives. Where pkg-config finds none, the source of
# that name, or what uses it, is left out, and decode-images says so of such files. KINDS= leaves all of them out.
KINDS        ?= webp gif tiff archive
PACKAGE_webp := libwebp libwebpdemux
PACKAGE_gif  := libgif
PACKAGE_tiff := libtiff-4
PACKAGE_archive := libarchive
ifneq ($(NEEDS_PACKAGES),)
KINDS_FOUND  := $(foreach k,$(KINDS),$(shell pkg-config --exists $(PACKAGE_$k) && echo $k))
KINDS_CFLAGS := $(foreach k,$(KINDS_FOUND),$(shell pkg-config --cflags $(PACKAGE_$k)))
KINDS_LIBS   := -Wl,--as-needed $(foreach k,$(KINDS_FOUND),$(shell pkg-config --libs $(PACKAGE_$k)))
endif
KINDS_LACK   := $(filter-out $(KINDS_FOUND),webp gif tiff archive)

# tile-images --show on terminals that know sixels; SIXEL= leaves it out.
ifneq ($(NEEDS_PACKAGES),)
SIXEL      ?= $(shell pkg-config --exists libsixel && echo sixel)
KINDS_LIBS += $(if $(SIXEL),$(shell pkg-config --libs libsixel))
endif

# Plug-ins stand in a folder of their own: beside the programs in ../lib/dit-tools, or where LIBDIR
# put them. MPI is one, of one source.
PLUGINS    := $B/lib/dit-tools
MPICC      ?= mpicc
MPI        ?= $(if $(shell command -v $(MPICC)),1,0)
MPI_SRC    := lib/model/ranks-mpi.c
MPI_PLUGIN := $(if $(filter-out 0,$(MPI)),$(PLUGINS)/dit-mpi.so)

# A program is a file in bin/, or a folder where it has outgrown one.
PROGRAMS  := $(patsubst bin/%.c,%,$(wildcard bin/*.c)) $(patsubst bin/%/,%,$(wildcard bin/*/))
program_objects = $(patsubst %.c,$B/obj/%.o,$(wildcard bin/$1.c bin/$1/*.c))
LIB_SRC   := $(filter-out $(MPI_SRC) $(if $(SIXEL),,formats/images/sixel.c) $(KINDS_LACK:%=formats/images/%.c),$(wildcard lib/*/*.c formats/*/*.c kernels/*.c kernels/ref/*.c))
# The cpu backend: operations without activations once for each instruction set, all others twice, with
# activations of 16 and of 32 bits.
CPU_ONCE  := $(foreach s,image loss product-f64 random sampling scratch,kernels/cpu/$s.c)
CPU_OPS   := $(filter-out $(CPU_ONCE),$(wildcard kernels/cpu/*.c))
cpu_objects = $(CPU_ONCE:kernels/cpu/%.c=$B/obj/kernels/$1/%.o) $(foreach b,16 32,$(CPU_OPS:kernels/cpu/%.c=$B/obj/kernels/$1/$b/%.o))
# What the compiler makes code for may be another processor than this one.
MACROS      := $(shell echo | $(CC) -dM -E - 2>/dev/null)
X86_64      := $(filter __x86_64__,$(MACROS))
ISAS        := generic $(if $(X86_64),avx2 avx512)
# On arm64 gcc's first scheduler, which is off on x86-64, moves so many loads up that sums are spilled.
ISA_generic := $(if $(filter __aarch64__,$(MACROS)),$(if $(filter __clang__,$(MACROS)),,-fno-schedule-insns))
ISA_avx2    := -mavx2 -mfma -mf16c
ISA_avx512  := $(ISA_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mprefer-vector-width=512
# Its instructions are for 16 bits alone.
ISA_avx512bf16 := $(ISA_avx512) -mavx512bf16
FLOAT_ISA_avx512bf16 := avx512
# The vectors and tiles of AVX-512 for processors without it: the tests compute with these as well.
ISA_lanes16 := $(if $(X86_64),$(ISA_avx2),$(ISA_generic)) -DLANES=16 -Wno-psabi
LANES16_OBJ := $(call cpu_objects,lanes16)
LANES16     := $(addprefix $B/tests/,check-ops dit-reference flow-reference autoencoder-kl inception draws normal)
LIB_OBJ   := $(LIB_SRC:%.c=$B/obj/%.o) $(foreach i,$(ISAS),$(call cpu_objects,$i)) \
             $(if $(X86_64),$(CPU_OPS:kernels/cpu/%.c=$B/obj/kernels/avx512bf16/16/%.o))
UNIT      := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/*.c))
# The emoji of the demo are drawn with FreeType, and left out without it.
FREETYPE  := $(if $(NEEDS_PACKAGES),$(shell pkg-config --exists freetype2 && echo draw-emoji))
TOOLS     := $(patsubst tests/tools/%.c,$B/tests/tools/%,$(filter-out $(if $(FREETYPE),,%/draw-emoji.c),$(wildcard tests/tools/*.c)))
BENCHES   := $(patsubst tests/bench/%.c,$B/tests/bench/%,$(wildcard tests/bench/*.c))
# The fuzz targets, also for those parts of programs that have outgrown one file.
FUZZ      := $(patsubst %.c,$B/obj/%.o,$(filter-out %/replay.c,$(wildcard tests/fuzz/*.c)) \
               $(filter-out $(foreach p,$(PROGRAMS),bin/$p/$p.c),$(wildcard bin/*/*.c)))
FUZZ_WRAP := -Wl,--wrap=file_map,--wrap=file_unmap
CHECK_OPS := $(patsubst %.c,$B/obj/%.o,$(wildcard tests/ops/*.c))
# Make a program's calls fail, and record them (tests/fault).
PRELOADS  := $(patsubst %.c,$B/%.so,$(wildcard tests/fault/*.c))
# The simulator of CUDA, for which the plug-in's sources are C++ (tests/cudasim/README.md).
CUDASIM       := $(patsubst %.cc,$B/obj/cudasim/%.o,$(wildcard tests/cudasim/*.cc))
CUDASIM_TESTS := $(patsubst tests/cudasim/tests/%.cu,$B/tests/%,$(wildcard tests/cudasim/tests/*.cu))
CUDASIM_FLAGS := -std=c++17 -D_GNU_SOURCE -DCUDASIM -I. -Itests/cudasim -pthread -fPIC -O2 -g -MMD -MP \
                 -Wall -Wextra $(if $(WERROR),-Werror) -Wno-unknown-warning-option -Wshadow=local -Wno-unknown-pragmas \
                 -fno-strict-aliasing $(CPPFLAGS) \
                 $(if $(SAN),-O1 $(filter -fsanitize% -fno-%,$(COMMON)))
# The simulator itself is worth more than the kernels' -O2, which -O3 would compile for minutes.
CUDASIM_SPEED := $(if $(SAN),,-O3 -fno-semantic-interposition)
# Without sanitizers misaligned vectors and indices past an array's end trap.
CUDASIM_TRAPS := $(if $(SAN),,-fsanitize=alignment,bounds -fsanitize-undefined-trap-on-error)

# The plug-in: each operation twice, with activations of 16 and of 32 bits. Neither `make check` nor
# `make demo` waits for it: the tests take its sources to the simulator.
NVCC       ?= nvcc
ifeq ($(origin CUDA),undefined)
NEEDS_CUDA := $(filter all plugin %-gpu %/dit-cuda.so,$(or $(MAKECMDGOALS),all))
HAS_NVCC   := $(if $(SAN),,$(if $(NEEDS_CUDA),$(shell command -v $(firstword $(NVCC)))))
NVCC_FAILS := $(if $(HAS_NVCC),$(shell kernels/cuda/probe.sh $(NVCC)))
CUDA       := $(if $(HAS_NVCC),$(if $(NVCC_FAILS),0,1),0)
ifneq ($(NVCC_FAILS),)
$(info $(NVCC) does not work here: $(NVCC_FAILS))
$(info The CUDA plug-in is left out. NVCC="nvcc -ccbin g++-14" names a compiler that nvcc knows; CUDA=0 leaves the plug-in out without asking.)
endif
endif
CUDA_ARCHS ?= -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a
NVCC_FLAGS := -std=c++17 -O3 -lineinfo -I. -MMD -MP -Xcompiler -fPIC,-Wall $(if $(WERROR),-Werror all-warnings) \
              $(CUDA_ARCHS)
CUDA_ONCE  := $(foreach s,backend gemm-cublaslt group group-nccl profile,kernels/cuda/$s.cu)
CUDA_OPS   := $(filter-out $(CUDA_ONCE),$(wildcard kernels/cuda/*.cu))
CUDA_OBJ   := $(CUDA_ONCE:%.cu=$B/obj/cuda/%.o) \
              $(foreach b,16 32,$(CUDA_OPS:kernels/cuda/%.cu=$B/obj/cuda/$b/%.o))
CUDASIM_PLUGIN := $(CUDASIM) $B/obj/cudasim/tests/cudasim/cublaslt.o \
                  $(foreach s,backend gemm-cublaslt group profile,$B/obj/cudasim/kernels/cuda/$s.o) \
                  $(foreach b,16 32,$(CUDA_OPS:kernels/cuda/%.cu=$B/obj/cudasim/$b/%.o))

MAN   := 1 5 7
SHARE := $(DESTDIR)$(PREFIX)/share/dit-tools
DOC   := $(DESTDIR)$(PREFIX)/share/doc/dit-tools
BASH  := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH   := $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH  := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

# Recipes say what they make; V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $1 $@')

all: programs plugin ## the programs into build/bin, and the plug-in (the default)
programs: $(PROGRAMS:%=$B/bin/%) $B/bin/decode $(MPI_PLUGIN) completions ## the programs, with MPI where mpicc is (MPI=0 leaves it out)
plugin: $(if $(filter-out 0,$(CUDA)),$(PLUGINS)/dit-cuda.so) ## the CUDA plug-in, minutes of work where nvcc is (CUDA=0 leaves it out)
tests: programs $(UNIT) $(TOOLS) $(BENCHES) $(PRELOADS) $B/tests/fuzz/replay $B/tests/check-ops $(CUDASIM_TESTS) \
    $B/lib/dit-cuda-sim.so

$B/lib/libdit-tools.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	$(call say,AR  )
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$B/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC  )
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(PKG_CFLAGS) -c $< -o $@

$B/obj/kernels/plugin.o: COMMON += -DPLUGIN_FOLDER='"$(LIBDIR)/dit-tools"'
$B/obj/kernels/plugin.o: $B/libdir
$B/obj/formats/images/imagenet.o: COMMON += -I$B
$B/obj/formats/images/imagenet.o: $B/formats/images/imagenet-classes.inc
$B/formats/images/imagenet-classes.inc: formats/images/imagenet-classes
	@mkdir -p $(@D)
	$(Q)sed 's/^[0-9]*\t\(.*\)/"\1",/' $< >$@
$(KINDS_FOUND:%=$B/obj/formats/images/%.o) $B/obj/formats/containers/archive.o: PKG_CFLAGS += $(KINDS_CFLAGS)
KINDS_OBJ := $B/obj/formats/images/image-file.o $B/obj/formats/containers/archive.o
$(KINDS_OBJ): COMMON += $(KINDS_FOUND:%=-DHAVE_%)
$(KINDS_OBJ): $B/kinds
$B/obj/formats/images/sixel.o: PKG_CFLAGS += $(shell pkg-config --cflags libsixel 2>/dev/null)
$B/obj/formats/images/terminal-image.o: COMMON += $(SIXEL:%=-DHAVE_%)
$B/obj/formats/images/terminal-image.o: $B/sixel
$B/obj/tests/tools/draw-emoji.o: PKG_CFLAGS += $(shell pkg-config --cflags freetype2 2>/dev/null)
$B/tests/tools/draw-emoji: PKG_LIBS += $(shell pkg-config --libs freetype2 2>/dev/null)
# These change when LIBDIR does, or when another library is found.
$B/libdir: NOTE = $(LIBDIR)
$B/kinds: NOTE = $(KINDS_FOUND)
$B/sixel: NOTE = $(SIXEL)
$B/libdir $B/kinds $B/sixel: FORCE
	@mkdir -p $(@D)
	@echo '$(NOTE)' | cmp -s - $@ || echo '$(NOTE)' >$@

# The cpu backend, for every instruction set; the fastest that runs is chosen at run time.
define ISA_RULE
$B/obj/kernels/$1/$2%.o: kernels/cpu/%.c
	@mkdir -p $$(@D)
	$$(call say,CC  )
	$$(Q)$$(CC) $$(COMMON) $$(CFLAGS) -fopenmp-simd $$(KERNEL) $$(PKG_CFLAGS) $$(ISA_$1) -DCPU_ISA=$1 \
	    -DFLOAT_ISA=$(or $(FLOAT_ISA_$1),$1) $(if $2,-DACT_BITS=$(2:/=)) -c $$< -o $$@
endef
$(foreach i,$(ISAS) avx512bf16 lanes16,$(foreach b,16 32,$(eval $(call ISA_RULE,$i,$b/)))$(eval $(call ISA_RULE,$i)))

$B/obj/cudasim/%.o: %.cc
	@mkdir -p $(@D)
	$(call say,CXX )
	$(Q)$(CXX) $(CUDASIM_FLAGS) $(CUDASIM_SPEED) -c $< -o $@
$B/obj/cudasim/%.o: %.cu
	@mkdir -p $(@D)
	$(call say,CXX )
	$(Q)$(CXX) $(CUDASIM_FLAGS) $(CUDASIM_TRAPS) -x c++ -c $< -o $@

$B/obj/cuda/%.o: %.cu
	@mkdir -p $(@D)
	$(call say,NVCC)
	$(Q)$(NVCC) $(NVCC_FLAGS) -c $< -o $@
define CUDA_BITS_RULE
$B/obj/cuda/$1/%.o: kernels/cuda/%.cu
	@mkdir -p $$(@D)
	$$(call say,NVCC)
	$$(Q)$$(NVCC) $$(NVCC_FLAGS) -DCUDA_BITS=$1 -c $$< -o $$@
$B/obj/cudasim/$1/%.o: kernels/cuda/%.cu
	@mkdir -p $$(@D)
	$$(call say,CXX )
	$$(Q)$$(CXX) $$(CUDASIM_FLAGS) $$(CUDASIM_TRAPS) -DCUDA_BITS=$1 -x c++ -c $$< -o $$@
endef
$(foreach b,16 32,$(eval $(call CUDA_BITS_RULE,$b)))
# What ptxas says of each kernel on the architectures that the README of kernels/cuda speaks of.
define RESOURCES_RULE
$B/resources/%.$1.sm_$2: kernels/cuda/%.cu
	@mkdir -p $$(@D)
	$$(call say,NVCC)
	$$(Q)$$(NVCC) -std=c++17 -O3 -I. -MMD -MP -MT $$@ -MF $$@.d -DCUDA_BITS=$1 -arch=sm_$2 -Xptxas -v \
	    -cubin -o $$@.cubin $$< 2>$$@.log || { cat $$@.log; exit 1; }
	@mv $$@.log $$@
endef
$(foreach b,16 32,$(foreach a,80 86 89 90a,$(eval $(call RESOURCES_RULE,$b,$a))))
RESOURCES := $(foreach o,$(CUDA_OPS:kernels/cuda/%.cu=%),$(foreach b,16 32,$(foreach a,80 86 89 90a,$B/resources/$o.$b.sm_$a)))
cuda-resources: $(RESOURCES) ## registers and spills of each kernel on each architecture, for which nvcc works minutes
	@kernels/cuda/resources.sh $^

$(PLUGINS)/dit-cuda.so: $(CUDA_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(NVCC) -shared -o $@ $^ -cudart static -lcublasLt -ldl
$B/lib/dit-cuda-sim.so: $(CUDASIM_PLUGIN)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CXX) $(CUDASIM_FLAGS) $(LDFLAGS) -shared -o $@ $^

$(PLUGINS)/dit-mpi.so: $(MPI_SRC) lib/model/ranks-mpi.h
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(MPICC) $(filter-out -MMD -MP -fsanitize% -fno-sanitize%,$(COMMON)) $(CFLAGS) $(LDFLAGS) -fPIC -shared -o $@ $<

LINK = $(CC) $(COMMON) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PKG_LIBS) -lm -ldl $(KINDS_LIBS)
# For gpu-bundle: libraries are linked in, all but libc's and CUDA's.
BUNDLE      := $B/gpu
BUNDLE_LINK = $(CC) -pthread $(CFLAGS) $(LDFLAGS) -s -static-libgcc -o $@ $(filter %.o %.a,$^) \
              -Wl,-Bstatic $(PKG_LIBS) -Wl,-Bdynamic -lm -ldl

.SECONDEXPANSION:
define LINK_RULES
$1/bin/%: $$$$(call program_objects,$$$$*) $B/lib/libdit-tools.a
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$($2)
$1/tests/%: $B/obj/tests/unit/%.o $B/lib/libdit-tools.a
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$($2)
$1/tests/check-ops: $(CHECK_OPS) $B/lib/libdit-tools.a
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$($2)
$1/tests/tools/%: $B/obj/tests/tools/%.o $B/lib/libdit-tools.a
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$($2)
endef
$(eval $(call LINK_RULES,$B,LINK))
$(eval $(call LINK_RULES,$(BUNDLE)/build,BUNDLE_LINK))
$(LANES16): $(LANES16_OBJ)
$B/bin/decode: $B/bin/decode-images
	$(Q)ln -sf decode-images $@
$(CUDASIM_TESTS): $B/tests/%: $B/obj/cudasim/tests/cudasim/tests/%.o $(CUDASIM)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CXX) $(CUDASIM_FLAGS) $(LDFLAGS) -o $@ $^
$B/tests/fuzz/replay: $(FUZZ) $B/obj/tests/fuzz/replay.o $B/lib/libdit-tools.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(LINK) $(FUZZ_WRAP)
$B/tests/fuzz/libfuzzer: $(FUZZ) $B/lib/libdit-tools.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(LINK) $(FUZZ_WRAP) -fsanitize=fuzzer
$B/tests/bench/%: $B/obj/tests/bench/%.o $B/lib/libdit-tools.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(LINK)

$B/tests/fault/%.so: tests/fault/%.c
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(filter-out -MMD -MP -fsanitize% -fno-sanitize%,$(COMMON)) $(CFLAGS) $(LDFLAGS) -fPIC -shared -o $@ $< -ldl

deps install-deps: ## install what is missing (Debian, Ubuntu; needs root or sudo)
	@pipelines/install-deps.sh build

demo: ## make samples from pictures, from nothing, in about 10 minutes (ARGS="--minutes 60 FOLDER")
	@pipelines/install-deps.sh demo
	@$(MAKE) -j$(JOBS) --no-print-directory programs demo-pictures
	@pipelines/demo.sh $(ARGS)

check: ## install what the tests need, build, run all tests
	@pipelines/install-deps.sh check
	@$(MAKE) -j$(JOBS) --no-print-directory run-tests

run-tests: tests ## run all tests (T="name ..." picks some)
	@TEST_LOCALE=$(TEST_LOCALE) B=$B JOBS=$(JOBS) PATH="$(abspath $B/bin):$$PATH" SAN=$(SAN) tests/run $(T)

check-more: ## run the long examples, jobs on a Slurm cluster, all tests with sanitizers, clang, a German locale, for arm64 and on newer Debians; plant mistakes into the CUDA plug-in (T="part ..." picks some)
	@tests/more.sh $(T)

fault: programs $(TOOLS) $(PRELOADS) ## fail each of the first N (200) allocations, opens, writes ... of every program (CASES="name ..." picks some)
	@B=$B JOBS=$(JOBS) tests/fault/inject.sh 1-$(or $(N),200) $(CASES)

power-cuts: programs $(TOOLS) $(PRELOADS) ## resume a training after power cuts at N moments (0, the default, is all)
	@B=$B tests/fault/power-cut.py $(or $(N),0)

check-valgrind: tests ## run the tests of formats, files and tools under valgrind
	@B=$B WRAP="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite" \
	    JOBS=$(JOBS) PATH="$(abspath $B/bin):$$PATH" \
	    tests/run mem tensor rng io options progress pool safetensors tstream images resample shuffle npy

FUZZ_B := build/fuzz
fuzz: ## look for inputs that break the parsers, with clang's libFuzzer (MINUTES=5, T="target ..." picks some)
	@command -v clang >/dev/null || { echo 'make fuzz needs clang and its libFuzzer (Debian: clang)' >&2; exit 1; }
	@$(MAKE) -j$(JOBS) --no-print-directory B=$(FUZZ_B) SAN=address,undefined CC=clang CUDA=0 MPI=0 \
	    CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' KERNEL='-O0 -fno-sanitize=all' $(FUZZ_B)/tests/fuzz/libfuzzer
	@tests/fuzz/run.sh $(FUZZ_B)/tests/fuzz/libfuzzer $(or $(MINUTES),5) $(T)

bench: tests ## measure the operations, the streams and the programs on this machine
	@B=$B PATH="$(abspath $B/bin):$$PATH" tests/bench/run

bench-peers: programs $(TOOLS) ## measure against Pillow and PyTorch (PYTHON=one that has them)
	@for bench in decode train vae inception; do \
	    B=$B PATH="$(abspath $B/bin):$$PATH" tests/bench/$$bench.sh $(or $(PYTHON),python3) || exit; \
	done

bench-samplers: $B/tests/bench/samplers ## measure flow matching and samplers of few steps, as ratios within one run (THREADS=1)
	@$B/tests/bench/samplers $(THREADS)

bench-sharing: programs $(TOOLS) ## measure the programs where others need the processors (T="part ..." picks some)
	@B=$B PATH="$(abspath $B/bin):$$PATH" tests/bench/sharing.sh $(T)

COMPLETIONS := $(foreach p,$(PROGRAMS) decode,bash/$p zsh/_$p fish/$p.fish)
demo-pictures: $B/tests/tools/draw-shapes $(FREETYPE:%=$B/tests/tools/%)

completions: $(COMPLETIONS:%=$B/completions/%) ## completions of the programs' options for bash, zsh and fish
define COMPLETION_RULE
$B/completions/$2: $B/bin/% lib/tool/completions.sh
	@mkdir -p $$(@D)
	$$(call say,COMP)
	$$(Q)PATH="$$(abspath $B/bin):$$$$PATH" lib/tool/completions.sh $1 $$* >$$@
endef
$(eval $(call COMPLETION_RULE,bash,bash/%))
$(eval $(call COMPLETION_RULE,zsh,zsh/_%))
$(eval $(call COMPLETION_RULE,fish,fish/%.fish))

# What the tests and measurements on a GPU run.
GPU_BIN   := dit-train dit-sample vae-encode vae-decode npz-pack
GPU_TOOLS := check-ops dit-reference flow-reference autoencoder-kl tools/make-stream \
             tools/check-group
GPU_BUILT := programs plugin $(GPU_TOOLS:%=$B/tests/%) \
             $(if $(filter-out 0,$(CUDA)),$B/tests/gpu/cuda-primitives)
$B/tests/gpu/cuda-primitives: $B/obj/cuda/tests/cudasim/tests/cuda-primitives.o
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(NVCC) -o $@ $^

check-gpu: $(GPU_BUILT) ## run the tests that a GPU can run, on the GPU
	@B=$B PATH="$(abspath $B/bin):$$PATH" tests/gpu/check.sh

bench-gpu: $(GPU_BUILT) ## measure the GPU, beside PyTorch where $PYTHON has it (PARTS="ops train sample vae torch")
	@B=$B PATH="$(abspath $B/bin):$$PATH" tests/bench/gpu.sh $(PARTS)

# The same for a machine where nothing can be built or installed. The folder mirrors the tree. Its
# plug-in is for one kind of GPU, in a build folder of its own.
BUNDLE_ARCH  ?= 90a
BUNDLE_BUILD := build/sm_$(BUNDLE_ARCH)
BUNDLE_CUDA  := lib/dit-tools/dit-cuda.so tests/gpu/cuda-primitives
gpu-bundle: $(GPU_BIN:%=$(BUNDLE)/build/bin/%) $(GPU_TOOLS:%=$(BUNDLE)/build/tests/%) ## pack build/gpu, whose run.sh tests and measures another machine's GPU (BUNDLE_ARCH=90a is for Hopper's)
	@$(MAKE) --no-print-directory B=$(BUNDLE_BUILD) \
	    CUDA_ARCHS='-gencode arch=compute_$(BUNDLE_ARCH),code=sm_$(BUNDLE_ARCH)' $(BUNDLE_CUDA:%=$(BUNDLE_BUILD)/%)
	@mkdir -p $(BUNDLE)/build/lib/dit-tools $(BUNDLE)/build/tests/gpu
	@for f in $(BUNDLE_CUDA); do cp $(BUNDLE_BUILD)/$$f $(BUNDLE)/build/$$f || exit; done
	@cp --parents tests/tap.sh tests/gpu/*.sh tests/bench/gpu.* tests/bench/train.py tests/bench/vae.py \
	    tests/data/dit-* tests/data/vae-* $(BUNDLE)
	@mv $(BUNDLE)/tests/gpu/run.sh $(BUNDLE)
	@du -sh $(BUNDLE)

# What was built is installed, whether or not nvcc and mpicc are on root's PATH.
install: programs ## install what was built into PREFIX (/usr/local), LIBDIR (PREFIX/lib); DESTDIR for packagers
	install -d $(MAN:%=$(DESTDIR)$(PREFIX)/share/man/man%) $(SHARE)/slurm $(DOC) \
	    $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/dit-tools
	install -m 755 $(PROGRAMS:%=$B/bin/%) $(DESTDIR)$(PREFIX)/bin
	ln -sf decode-images $(DESTDIR)$(PREFIX)/bin/decode
	for plugin in $(PLUGINS)/dit-*.so; do \
	    [ ! -e "$$plugin" ] || install -m 755 "$$plugin" $(DESTDIR)$(LIBDIR)/dit-tools || exit; \
	done
	for s in $(MAN); do install -m 644 man/*.$$s $(DESTDIR)$(PREFIX)/share/man/man$$s || exit; done
	ln -sf decode-images.1 $(DESTDIR)$(PREFIX)/share/man/man1/decode.1
	install -Dm 644 -t $(BASH) $B/completions/bash/*
	install -Dm 644 -t $(ZSH) $B/completions/zsh/*
	install -Dm 644 -t $(FISH) $B/completions/fish/*
	install -m 755 pipelines/*.sh $(SHARE)
	install -m 644 pipelines/*.html formats/images/imagenet-classes $(SHARE)
	install -m 755 pipelines/slurm/*.sh pipelines/slurm/*.sbatch $(SHARE)/slurm
	install -m 644 README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md LICENSE $(DOC)

uninstall: ## remove what install put there
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%) $(DESTDIR)$(PREFIX)/bin/decode
	for s in $(MAN); do \
	    for f in man/*.$$s; do rm -f $(DESTDIR)$(PREFIX)/share/man/man$$s/$${f##*/}; done; \
	done
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/decode.1
	for p in $(PROGRAMS) decode; do rm -f $(BASH)/$$p $(ZSH)/_$$p $(FISH)/$$p.fish; done
	rm -rf $(DESTDIR)$(LIBDIR)/dit-tools $(SHARE) $(DOC)

coverage: ## run the tests and report which lines they reach, in build/coverage (needs gcovr)
	@command -v gcovr >/dev/null || { echo 'make coverage needs gcovr' >&2; exit 1; }
	@$(MAKE) -j$(JOBS) --no-print-directory B=build/coverage CUDA=0 run-tests \
	    CFLAGS='-O1 -g --coverage -fprofile-update=atomic' LDFLAGS=--coverage
	@gcovr --object-directory build/coverage/obj --filter 'bin/' --filter 'formats/' --filter 'lib/' \
	    --filter 'kernels/' --html-details build/coverage/index.html --print-summary build/coverage
	@echo 'Open build/coverage/index.html.'

compile_commands.json: Makefile ## how each file is compiled, for editors and analysers
	@{ echo '['; $(MAKE) -Bn V=1 --no-print-directory CUDA=0 tests | sed -n \
	    -e 's/["\\]/\\&/g' -e 's|^.* -c \([^ ]*\) -o \([^ ]*\)$$|{"directory": "$(CURDIR)", "file": "\1", "output": "\2", "command": "&"},|p' \
	    | sed '$$s/,$$//'; echo ']'; } >$@

format: ## format all sources in place, with clang-format 14
	$$(command -v clang-format-14 || echo clang-format) -i $$(git ls-files '*.c' '*.h' '*.cc' '*.cu')

clean: ## remove build/
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z_.-]*\)\( [a-z-]*\)*:.*## /\1\t/p' Makefile | awk -F'\t' '{ printf "%-22s  %s\n", $$1, $$2 }'

-include $(shell find $B/obj $B/resources -name '*.d' 2>/dev/null)
.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: FORCE cuda-resources all programs plugin completions tests deps install-deps demo check check-more run-tests fault \
    power-cuts check-valgrind bench bench-peers bench-samplers bench-sharing check-gpu bench-gpu gpu-bundle install uninstall coverage fuzz \
    format clean help

// The boundary between backtrail and a library of ops: plain C structs and function pointers.
//
// A library exports one symbol, the constant `backtrail_library_v1`. Its plain members are read
// first; only when its version and instruction set suit is `open` called, with what the host
// offers. Every struct begins with its own size. The minor version grows when members are appended:
// the reader takes what the writer had and zeros for the rest, so that older libraries keep
// working. The major version grows when the meaning of anything changes. No exception crosses:
// errors go through backtrail_host::error. Nothing here is Python's.
#pragma once
#include <stdint.h>

#define BACKTRAIL_ABI_MAJOR 2
#define BACKTRAIL_ABI_MINOR 0
#define BACKTRAIL_HEADERS_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

enum backtrail_limits {
  BACKTRAIL_MAX_DIMS = 8,
  BACKTRAIL_MAX_ATTRS = 8,
  BACKTRAIL_MAX_OUTPUTS = 8,
  BACKTRAIL_MAX_ROWS = 64  // that one call of `run` is given
};

// The exception that an error becomes. `kept`: the host has the error already.
enum backtrail_error {
  BACKTRAIL_RUNTIME_ERROR,
  BACKTRAIL_VALUE_ERROR,
  BACKTRAIL_TYPE_ERROR,
  BACKTRAIL_INDEX_ERROR,
  BACKTRAIL_MEMORY_ERROR
};

enum backtrail_type {
  BACKTRAIL_FLOAT32,
  BACKTRAIL_FLOAT64,
  BACKTRAIL_INT64,
  BACKTRAIL_BOOL,
  BACKTRAIL_FLOATING  // float32 or float64, the same one for all such arrays of a call
};

enum backtrail_attr_type {
  BACKTRAIL_ATTR_DOUBLE,
  BACKTRAIL_ATTR_FLOAT,
  BACKTRAIL_ATTR_INT,
  BACKTRAIL_ATTR_INT64,
  BACKTRAIL_ATTR_BOOL
};

enum backtrail_kind {
  BACKTRAIL_POINTWISE,
  BACKTRAIL_REDUCTION,
  BACKTRAIL_ROWWISE,
  BACKTRAIL_OPAQUE
};

enum backtrail_flags {
  BACKTRAIL_MASK_OUTPUT = 1,  // a pointwise op whose result is bool
  BACKTRAIL_ON_FLOATS = 2,    // a pointwise op has kernels of float32 and float64
  BACKTRAIL_ON_INTEGERS = 4,  // and of int64
  BACKTRAIL_DIFFERENTIABLE = 8,
  BACKTRAIL_WRITTEN_BACKWARD = 16,
  BACKTRAIL_READS_INPUTS = 32,  // what the derivative reads
  BACKTRAIL_READS_OUTPUT = 64,
  BACKTRAIL_SYMBOLIC_ATTRS = 128  // a trace takes the attributes as inputs
};

// What backtrail offers to a library. Functions may be called on any thread that runs an op.
typedef struct backtrail_host {
  uint32_t size;
  uint32_t abi_major, abi_minor;
  const char* version;
  // Keep an error for whoever called the op; the first one counts. It is raised after the return.
  void (*error)(uint32_t kind, const char* text);
  // Run body(context, 0 ... tasks - 1), which must not throw, on as many threads as that much work
  // is worth. Not 0: the user interrupted it; return at once.
  int (*parallel_for)(int64_t tasks, double cost_ns, void (*body)(void* context, int64_t task),
                      void* context);
} backtrail_host;

// Computes `n` elements. Input j is read at in[j][i & mask[j]]: mask 0 repeats one 64-byte vector.
typedef void (*backtrail_kernel)(void* out, const void* const* in, const int64_t* mask, int64_t n,
                                 const double* attrs);
typedef struct backtrail_kernels {
  backtrail_kernel f32, f64, i64;  // null where the op has no such kernel
} backtrail_kernels;

// A program of primitive ops. Registers: its inputs, then the result of each instruction.
typedef struct backtrail_trace_arg {
  int32_t reg;   // -1: a constant
  double value;  // of a constant
} backtrail_trace_arg;
typedef struct backtrail_trace_instr {
  const char* op;
  int32_t n_args;
  backtrail_trace_arg args[3];
} backtrail_trace_instr;
typedef struct backtrail_trace {
  uint32_t size;
  int32_t n_inputs, n_instrs;
  int32_t overflow;  // it would have been too long
  backtrail_trace_arg result;
  const backtrail_trace_instr* instrs;
} backtrail_trace;

// An array of a call, dense but for the rows of row-wise ops: see backtrail_call::rows.
typedef struct backtrail_array {
  void* data;
  int64_t shape[BACKTRAIL_MAX_DIMS];
  int32_t n_dims;
  uint32_t type;
} backtrail_array;

// One call of an op that is not pointwise, or of its derivative. The derivative of order k takes
// the inputs of the op; its outputs, if k is 1 and a written derivative reads them; then for each
// order up to k the gradients of the outputs of the order before. It gives the gradients of all
// floating inputs of order k - 1.
typedef struct backtrail_call {
  uint32_t size;
  uint32_t order;
  uint32_t derived;  // not 0: derive it, even if it is written
  int32_t n_in, n_out, n_rows;
  const double* attrs;
  const backtrail_array *in, *out;
  // Of reductions and row-wise ops: array j's row r lies at rows[j * n_rows + r], for the inputs
  // and then the outputs, at most BACKTRAIL_MAX_ROWS of them; its length is the last size.
  void* const* rows;
} backtrail_call;

typedef struct backtrail_attr {
  uint32_t size;
  uint32_t type;
  const char* name;
  double value;  // the default; integers are exact up to 2^53
} backtrail_attr;

typedef struct backtrail_input {
  uint32_t size;
  uint32_t type;     // floating, int64 or bool
  const char* name;  // null: it has none of its own
} backtrail_input;

typedef struct backtrail_op {
  uint32_t size;
  uint32_t kind, flags;
  int32_t n_inputs, n_outputs, n_attrs;
  const char *name, *doc;
  const backtrail_input* inputs;
  const backtrail_attr* attrs;
  int32_t orders;    // how many derivatives there are; -1: no end
  double cost;       // nanoseconds an element, roughly, on one core
  double low, high;  // where it is defined and smooth, for tests
  // Pointwise.
  backtrail_kernels forward;
  const backtrail_kernels* vjp;      // the gradient of each input
  const backtrail_kernels* derived;  // a written one again by dual numbers, for tests; or null
  // The derivative of an input as a program, valid until the next call on this thread; null after
  // an error. Its inputs are the gradient and what the derivative reads, then the attributes if
  // they are symbolic and `attrs` is null.
  const backtrail_trace* (*trace)(int32_t input, const double* attrs);
  // All others.
  void (*run)(const backtrail_call*);
  // Sets sizes of the outputs from those of the inputs: call->out is to be written to here.
  void (*shape)(const backtrail_call*, backtrail_array* out);
} backtrail_op;

typedef struct backtrail_library {
  uint32_t size;
  uint32_t abi_major, abi_minor;
  const char *version, *isa, *compiler;  // isa: v2, v3, v4 or base
  // The ops, `*count` of them; `host` lives for ever. Null after an error.
  const backtrail_op* (*open)(const backtrail_host* host, int32_t* count);
} backtrail_library;

#ifdef __cplusplus
}
#endif

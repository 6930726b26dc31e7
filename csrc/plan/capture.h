// A capture: the list of all that was executed while one was being recorded, on numbered buffers.
//
// What computes tells it as an Observer; a plan is made from the result. A step names the buffers
// it reads and writes and holds no reference to them, so that recording changes neither lifetimes
// nor the choices that eager execution makes by them.
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "exec/observer.h"
#include "exec/optimizer.h"

namespace backtrail {

// An array of a step: a view of a buffer, or for pointwise steps a number.
struct StepArray {
  int buffer = -1;  // -1: none, or the number
  int64_t offset = 0;
  Dims shape, strides;
  DType dtype = DType::f32;
  double number = 0;
  int64_t integer = 0;
};

struct Step {
  enum Kind : uint8_t {
    pointwise,
    op,
    constant,
    setting,
    adam,
    sgd,
    clip,
    finite
  } kind;  // updates last
  const char* name;
  std::vector<StepArray> in, out;
  // pointwise
  PointwiseKernels kernels{};
  DType compute = DType::f32;
  unsigned masks = 0;
  bool mask_output = false;
  double cost = 0;
  double values[kMaxAttrs] = {};
  // op
  const Op* op_ = nullptr;
  std::vector<AttrValue> attrs;
  std::vector<int64_t> lists;  // of the attributes, one after the other
  int stream = -1;             // which draw of random numbers its last two attributes are
  // setting: none; the output is a scalar of float64
  // constant: the bytes of the output
  std::shared_ptr<std::vector<char>> bytes;
  // finite: fails, by its name, where its input is not; writes nothing
  // optimizers and clipping: inputs and outputs come list after list, `n` arrays each
  int n = 0;
  bool has_second = false;  // amsgrad's or momentum's list is given
  AdamOptions adam_options;
  SgdOptions sgd_options;
  double max_norm = 0, norm_type = 2;
  int live = -1;  // whose settings are read anew at each replay
};

struct CaptureBuffer {
  enum Kind : uint8_t {
    internal,  // made and gone during the capture
    fixed,     // was there before; the same memory at each replay
    bound,     // of an argument, or of a gradient: another address at each replay
    output,    // returned or kept: fresh memory at each replay
  } kind = internal;
  size_t bytes = 0;
  StorageRef hold;  // of fixed buffers
  bool alive = true;
  const char* maker = nullptr;  // name of the first step that wrote it
};

class Capture : public Observer {
 public:
  Capture();
  virtual ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  std::vector<Step> steps;
  std::vector<CaptureBuffer> buffers;

  // The number of an array's buffer; a storage seen for the first time gets one.
  int buffer_of(const Array& a, bool reads);
  StepArray array(const Array& a, bool reads);
  StepArray written(const Array& a, const char* by);
  // That of a storage seen before, or -1.
  int find(const Array& a) const;
  void freed(uint64_t serial);
  void close();  // no longer watch which storages go
  bool is_new(const Array& a) const { return a.storage->serial > first_serial_; }

  void saw_pointwise(const PointwiseKernels& kernels, DType compute, unsigned masks,
                     bool mask_output, const Operand* in, int n_in, const Array& out,
                     const double* attrs, double cost, const char* name) override;
  void saw_op(const Op& op, const Call& call) override;
  void saw_constant(const char* name, const Array& a);  // of what it holds now
  // An update in place of lists of n arrays each, side by side. The lists are read, and written but
  // for the one at `only_read`; null ones are left out. `extra` is written as well.
  Step& saw_update(Step::Kind kind, const char* name, std::initializer_list<const Array*> lists,
                   int n, int only_read, const Array* extra = nullptr);

 private:
  std::unordered_map<uint64_t, int> numbers_;  // by storage serial
  uint64_t first_serial_;
};

// The capture going on on this thread, or null.
inline Capture* capturing() { return static_cast<Capture*>(observer); }

}  // namespace backtrail

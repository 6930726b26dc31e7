// What must still hold of the Python objects around a captured function for its plan to be right.
#pragma once
#include <pybind11/pybind11.h>

#include "bindings/objects.h"

namespace backtrail {

class Guards {
 public:
  Guards() = default;
  // A list of tuples:
  //   ("item", dict, key, value)   dict[key] is value, or equal if it is immutable
  //   ("length", container, n)     len(container) == n
  //   ("items", list, tuple)       each item of the list is, or equals, that of the tuple
  //   ("cell", cell, value)        the same for the contents of a closure's cell
  //   ("attribute", object, name, value)
  //   ("type", object, type)
  //   ("tensor", tensor)           the same memory, shape, dtype, requires_grad and hooks as now
  explicit Guards(const pybind11::list& list);
  // The number of the first that does not hold, or -1.
  int broken() const;
  template <class F>
  void each_object(F& f) {
    for (Check& c : checks_) f(c.holder), f(c.key), f(c.value);
  }
  size_t size() const { return checks_.size(); }

 private:
  struct Check {
    enum Kind : uint8_t { item, length, items, cell, attribute, type, tensor } kind;
    pybind11::object holder, key, value;
    int64_t n = 0;
    Array array;  // of a tensor, with its storage held
    bool requires_grad = false;
    PyObject* hooks = nullptr;
  };
  static bool holds(const Check& c);
  std::vector<Check> checks_;
};

}  // namespace backtrail

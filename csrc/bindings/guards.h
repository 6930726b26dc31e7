// What must still hold of the Python objects around a captured function for its plan to be right.
#pragma once
#include "bindings/objects.h"  // Python.h first
#include "bindings/ref.h"

#include <vector>

namespace backtrail {

class Guards {
 public:
  Guards() = default;
  // A list of tuples:
  //   ("item", dict, key, value)   dict[key] is value, or equal if it is immutable
  //   ("length", container, n)     len(container) == n
  //   ("items", list, tuple)       each item of the list is, or equals, that of the tuple
  //   ("set", set, frozenset)      they are equal
  //   ("memory", buffer, bytes)    its memory holds these bytes
  //   ("cell", cell, value)        the same for the contents of a closure's cell
  //   ("attribute", object, name, value)
  //   ("type", object, type)
  //   ("tensor", tensor)           the same memory, shape, dtype, requires_grad and hooks as now
  explicit Guards(PyObject* list);
  // The number of one that does not hold, or -1.
  int broken();
  size_t size() const { return count_; }
  template <class F>
  void each_object(F& f) {
    for (Check& c : checks_) f(c.holder), f(c.key), f(c.value);
    for (Dict& d : dicts_) {
      f(d.dict);
      for (Item& i : d.items) f(i.key), f(i.value);
    }
  }

 private:
  struct Check {
    enum Kind : uint8_t { length, items, set, memory, cell, attribute, type, tensor } kind;
    int number;
    Ref holder, key, value;
    int64_t n = 0;
    Array array;  // of a tensor, with its storage held
    bool requires_grad = false;
    PyObject* hooks = nullptr;
  };
  struct Item {
    int number;
    Ref key, value;
  };
  // All that is known of one dict, and its version when that was last seen to hold.
  struct Dict {
    Ref dict;
    uint64_t version = 0;
    int64_t length = -1;
    int length_number = -1;
    std::vector<Item> items;
    int broken() const;
  };
  static bool holds(const Check& c);
  std::vector<Check> checks_;
  std::vector<Dict> dicts_;
  size_t count_ = 0;
};

}  // namespace backtrail

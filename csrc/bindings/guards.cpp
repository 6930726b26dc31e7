// Checking guards: a few nanoseconds each, for there may be hundreds at every call.
#include "bindings/guards.h"

#include <cstring>
#include <unordered_map>

#include "bindings/spec.h"

namespace backtrail {
namespace {

// A number that every change of a dict changes, or 0 where Python keeps none that can be relied on.
uint64_t version_of(PyObject* dict) {
#if PY_VERSION_HEX < 0x030c0000
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#else
  (void)dict;
  return 0;
#endif
}

bool holds_bytes(PyObject* holder, PyObject* bytes) {
  Py_buffer view;
  if (PyObject_GetBuffer(holder, &view, PyBUF_FULL_RO) < 0) return false;
  bool same = view.len == PyBytes_GET_SIZE(bytes);
  if (same && PyBuffer_IsContiguous(&view, 'C')) {
    same = std::memcmp(view.buf, PyBytes_AS_STRING(bytes), size_t(view.len)) == 0;
  } else if (same) {
    std::vector<char> dense(size_t(view.len));
    same = PyBuffer_ToContiguous(dense.data(), &view, view.len, 'C') == 0 &&
           std::memcmp(dense.data(), PyBytes_AS_STRING(bytes), dense.size()) == 0;
  }
  PyBuffer_Release(&view);
  return same;
}

}  // namespace

Guards::Guards(PyObject* list) {
  if (!PyList_Check(list)) fail(ErrorKind::type, "guards: expected a list of tuples");
  std::unordered_map<PyObject*, size_t> places;
  for (Py_ssize_t place = 0; place < PyList_GET_SIZE(list); ++place) {
    PyObject* t = PyList_GET_ITEM(list, place);
    const auto part = [&](Py_ssize_t i) {
      if (!PyTuple_Check(t) || PyTuple_GET_SIZE(t) <= i)
        fail(ErrorKind::type, "guards: entry %zd is no tuple of more than %zd", place, i);
      return Ref::borrow(PyTuple_GET_ITEM(t, i));
    };
    const auto length = [&] {
      const int64_t n = PyLong_AsLongLong(part(2).get());
      if (n == -1 && PyErr_Occurred()) throw_raised();
      return n;
    };
    const Ref name = part(0);
    const char* text = PyUnicode_AsUTF8(name.get());
    if (!text) throw_raised();
    const std::string kind = text;
    const int number = int(count_++);
    const Ref holder = part(1);
    if (kind == "item" || (kind == "length" && PyDict_Check(holder.get()))) {
      const auto [it, fresh] = places.try_emplace(holder.get(), dicts_.size());
      if (fresh) {
        dicts_.emplace_back();
        dicts_.back().dict = holder;
      }
      Dict& d = dicts_[it->second];
      if (kind == "item")
        d.items.push_back({number, part(2), part(3)});
      else
        d.length = length(), d.length_number = number;
      continue;
    }
    Check c;
    c.number = number;
    c.holder = holder;
    if (kind == "attribute") {
      c.kind = Check::attribute;
      c.key = part(2);
      c.value = part(3);
    } else if (kind == "length") {
      c.kind = Check::length;
      c.n = length();
    } else if (kind == "tensor") {
      c.kind = Check::tensor;
      const TensorObject* tensor = as_tensor(holder.get());
      c.array = tensor->array;
      c.requires_grad = tensor->needs_grad();
      c.hooks = tensor->hooks;
      c.n = tensor->hooks ? PyObject_Size(tensor->hooks) : 0;
    } else {
      c.kind = kind == "items"    ? Check::items
               : kind == "set"    ? Check::set
               : kind == "memory" ? Check::memory
               : kind == "cell"   ? Check::cell
                                  : Check::type;
      c.value = part(2);
    }
    checks_.push_back(std::move(c));
  }
}

int Guards::Dict::broken() const {
  if (length >= 0 && PyDict_GET_SIZE(dict.get()) != length) return length_number;
  for (const Item& i : items) {
    PyObject* now = PyDict_GetItemWithError(dict.get(), i.key.get());
    if (!now || !same_value(i.value.get(), now)) return i.number;
  }
  return -1;
}

bool Guards::holds(const Check& c) {
  PyObject* holder = c.holder.get();
  switch (c.kind) {
    case Check::length: return PyObject_Size(holder) == c.n;
    case Check::items: {
      const Py_ssize_t n = PyTuple_GET_SIZE(c.value.get());
      if (PySequence_Fast_GET_SIZE(holder) != n) return false;
      for (Py_ssize_t i = 0; i < n; ++i)
        if (!same_value(PyTuple_GET_ITEM(c.value.get(), i), PySequence_Fast_GET_ITEM(holder, i)))
          return false;
      return true;
    }
    case Check::set: return PyObject_RichCompareBool(holder, c.value.get(), Py_EQ) == 1;
    case Check::memory: return holds_bytes(holder, c.value.get());
    case Check::cell: {
      PyObject* now = PyCell_GET(holder);
      return now && same_value(c.value.get(), now);
    }
    case Check::attribute: {
      PyObject* now = PyObject_GetAttr(holder, c.key.get());
      const bool same = now && same_value(c.value.get(), now);
      Py_XDECREF(now);
      return same;
    }
    case Check::type: return reinterpret_cast<PyObject*>(Py_TYPE(holder)) == c.value.get();
    case Check::tensor: {
      const TensorObject* t = as_tensor(holder);
      const Array &now = t->array, &then = c.array;
      return now.storage.get() == then.storage.get() && now.offset == then.offset &&
             now.dtype == then.dtype && now.shape == then.shape && now.strides == then.strides &&
             t->needs_grad() == c.requires_grad && t->hooks == c.hooks &&
             (!t->hooks || PyObject_Size(t->hooks) == c.n);
    }
  }
  return false;
}

int Guards::broken() {
  int number = -1;
  for (const Check& c : checks_)
    if (!holds(c)) {
      number = c.number;
      break;
    }
  for (Dict& d : dicts_) {
    if (number >= 0) break;
    const uint64_t version = version_of(d.dict.get());
    if (version && version == d.version) continue;
    number = d.broken();
    if (number < 0) d.version = version;
  }
  if (number >= 0) PyErr_Clear();
  return number;
}

}  // namespace backtrail

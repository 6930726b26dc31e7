// Checking guards: a few nanoseconds each, for there may be hundreds at every call.
#include "bindings/guards.h"

#include "bindings/spec.h"

namespace py = pybind11;

namespace backtrail {

Guards::Guards(const py::list& list) {
  for (const py::handle entry : list) {
    const auto t = py::reinterpret_borrow<py::tuple>(entry);
    const std::string kind = py::cast<std::string>(t[0]);
    Check c;
    c.holder = t[1];
    if (kind == "item" || kind == "attribute") {
      c.kind = kind == "item" ? Check::item : Check::attribute;
      c.key = t[2];
      c.value = t[3];
    } else if (kind == "length") {
      c.kind = Check::length;
      c.n = py::cast<int64_t>(t[2]);
    } else if (kind == "tensor") {
      c.kind = Check::tensor;
      const TensorObject* tensor = as_tensor(c.holder.ptr());
      c.array = tensor->array;
      c.requires_grad = tensor->needs_grad();
      c.hooks = tensor->hooks;
      c.n = tensor->hooks ? PyObject_Size(tensor->hooks) : 0;
    } else {
      c.kind = kind == "items" ? Check::items : kind == "cell" ? Check::cell : Check::type;
      c.value = t[2];
    }
    checks_.push_back(std::move(c));
  }
}

bool Guards::holds(const Check& c) {
  PyObject* holder = c.holder.ptr();
  switch (c.kind) {
    case Check::item: {
      PyObject* now = PyDict_GetItemWithError(holder, c.key.ptr());
      return now && same_value(c.value.ptr(), now);
    }
    case Check::length: return PyObject_Size(holder) == c.n;
    case Check::items: {
      const Py_ssize_t n = PyTuple_GET_SIZE(c.value.ptr());
      if (PySequence_Fast_GET_SIZE(holder) != n) return false;
      for (Py_ssize_t i = 0; i < n; ++i)
        if (!same_value(PyTuple_GET_ITEM(c.value.ptr(), i), PySequence_Fast_GET_ITEM(holder, i)))
          return false;
      return true;
    }
    case Check::cell: {
      PyObject* now = PyCell_GET(holder);
      return now && same_value(c.value.ptr(), now);
    }
    case Check::attribute: {
      PyObject* now = PyObject_GetAttr(holder, c.key.ptr());
      const bool same = now && same_value(c.value.ptr(), now);
      Py_XDECREF(now);
      return same;
    }
    case Check::type: return reinterpret_cast<PyObject*>(Py_TYPE(holder)) == c.value.ptr();
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

int Guards::broken() const {
  for (size_t i = 0; i < checks_.size(); ++i)
    if (!holds(checks_[i])) {
      PyErr_Clear();
      return int(i);
    }
  return -1;
}

}  // namespace backtrail

// Zero-copy exchange with other libraries: Python's buffer protocol (NumPy) and DLPack.
#include <cstring>

#include "bindings/args.h"
#include "bindings/gil.h"
#include "bindings/recording.h"
#include "core/dlpack.h"

namespace backtrail {
namespace {

DType buffer_dtype(const Py_buffer& view) {
  const char* f = view.format ? view.format : "B";
  if (*f == '=' || *f == '<' || *f == '@') ++f;
  auto is = [&](const char* codes, Py_ssize_t size) {
    return f[0] && !f[1] && std::strchr(codes, f[0]) && view.itemsize == size;
  };
  if (is("f", 4)) return DType::f32;
  if (is("d", 8)) return DType::f64;
  if (is("lq", 8)) return DType::i64;
  if (is("il", 4)) return DType::i32;
  if (is("B", 1)) return DType::u8;
  if (is("?", 1)) return DType::b8;
  fail(ErrorKind::type,
       "from_numpy: elements of format '%s' are not supported; expected float32, float64, int64, "
       "int32, "
       "uint8 or bool: convert with .astype() first",
       view.format ? view.format : "B");
}

void release_view(void* owner) {
  Py_buffer* view = static_cast<Py_buffer*>(owner);
  PyBuffer_Release(view);
  delete view;
}

// Kernels take it that a bool is 0 or 1, as languages do.
void check_bools(const Array& a) {
  bool good = true;
  const Array numbers = [&] {
    Array bytes = a;
    bytes.dtype = DType::u8;
    return contiguous(bytes);
  }();
  const auto* p = reinterpret_cast<const unsigned char*>(numbers.data());
  for (int64_t i = 0, n = numbers.numel(); i < n; ++i) good &= p[i] <= 1;
  if (!good)
    fail(ErrorKind::value,
         "from_numpy: bools with bytes other than 0 and 1; use .astype(bool) on "
         "what they are a view of");
}

// A tensor on the memory of any object with the buffer protocol. Read-only memory is copied.
Array array_on(PyObject* source) {
  if (capturing()) refuse_memory("from_numpy");
  Py_buffer* view = new Py_buffer;
  bool readonly = false;
  if (PyObject_GetBuffer(source, view, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE)) {
    PyErr_Clear();
    readonly = true;
    if (PyObject_GetBuffer(source, view, PyBUF_STRIDES | PyBUF_FORMAT)) {
      delete view;
      throw_raised();
    }
  }
  try {
    Array a;
    a.dtype = buffer_dtype(*view);
    int64_t high = 0;
    for (int i = 0; i < view->ndim; ++i) a.shape.push(view->shape[i]);
    a.strides = contiguous_strides(a.shape);
    for (int i = 0; i < view->ndim && view->strides; ++i) {
      if (view->strides[i] % view->itemsize)
        fail(ErrorKind::value,
             "from_numpy: strides that are no multiple of the element; copy the array first");
      a.strides[i] = view->strides[i] / view->itemsize;
      if (view->strides[i] < 0)
        fail(ErrorKind::value,
             "from_numpy: negative strides are not supported; copy the array first");
    }
    for (int i = 0; i < view->ndim; ++i)
      high += (a.shape[i] - 1) * a.strides[i] * int64_t(view->itemsize);
    const size_t bytes = size_t(high + view->itemsize);
    if (a.numel() == 0 || readonly) {
      a.storage = adopt(
          view->buf, bytes, [](void*) {}, nullptr);
      Array copy = empty(a.shape, a.dtype);
      if (a.numel()) copy_into(a, copy);
      release_view(view);
      return copy;
    }
    if (a.dtype == DType::b8) {
      a.storage = adopt(
          view->buf, bytes, [](void*) {}, nullptr);
      check_bools(a);
    }
    a.storage = adopt(view->buf, bytes, release_view, view);
    return a;
  } catch (...) {
    release_view(view);
    throw;
  }
}

struct Exported {
  dlpack::Managed managed;
  Array array;
};

// DLPack's names of our dtypes, by code.
constexpr dlpack::DataType kTypes[kDTypes] = {{dlpack::kFloat, 32, 1}, {dlpack::kFloat, 64, 1},
                                              {dlpack::kInt, 64, 1},   {dlpack::kInt, 32, 1},
                                              {dlpack::kUInt, 8, 1},   {dlpack::kBool, 8, 1},
                                              {dlpack::kBfloat, 16, 1}};

PyObject* capsule_of(const Array& a) {
  value_read("to_dlpack");
  if (a.storage->writer == kFirstGradient) a.storage->writer = nullptr;
  using namespace dlpack;
  Exported* e = new Exported{{}, a};
  e->managed.tensor = {
      e->array.data(),    {kCpu, 0}, e->array.ndim(), kTypes[int(a.dtype)], e->array.shape.v,
      e->array.strides.v, 0};
  e->managed.context = e;
  e->managed.deleter = [](Managed* m) {
    GilHold gil;
    delete static_cast<Exported*>(m->context);
  };
  PyObject* made = PyCapsule_New(&e->managed, "dltensor", [](PyObject* capsule) {
    // A consumer renames the capsule and takes over the deleter.
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, "dltensor"));
    m->deleter(m);
  });
  if (!made) delete e;
  return made;
}

Array from_capsule(PyObject* capsule) {
  if (capturing()) refuse_memory("from_dlpack");
  using namespace dlpack;
  if (!PyCapsule_IsValid(capsule, "dltensor"))
    fail(ErrorKind::type, "from_dlpack: expected an unused 'dltensor' capsule");
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, "dltensor"));
  const Tensor& t = m->tensor;
  if (t.device.type != kCpu)
    fail(ErrorKind::runtime,
         "from_dlpack: the tensor is on device type %d; only the CPU is supported", t.device.type);
  Array a;
  int type = 0;
  while (type < kDTypes && (t.dtype.code != kTypes[type].code ||
                            t.dtype.bits != kTypes[type].bits || t.dtype.lanes != 1))
    ++type;
  if (type == kDTypes)
    fail(ErrorKind::type, "from_dlpack: elements of type code %d with %d bits are not supported",
         t.dtype.code, t.dtype.bits);
  a.dtype = DType(type);
  int64_t reach = 0;
  for (int i = 0; i < t.ndim; ++i) a.shape.push(t.shape[i]);
  a.strides = contiguous_strides(a.shape);
  for (int i = 0; i < t.ndim; ++i) {
    if (t.strides) a.strides[i] = t.strides[i];
    if (a.strides[i] < 0) fail(ErrorKind::value, "from_dlpack: negative strides are not supported");
    reach += (a.shape[i] - 1) * a.strides[i];
  }
  const size_t bytes = a.numel() ? size_t(reach + 1) * a.item() : 0;
  a.storage = adopt(
      static_cast<char*>(t.data) + t.byte_offset, bytes,
      [](void* owner) {
        auto* managed = static_cast<Managed*>(owner);
        if (managed->deleter) managed->deleter(managed);
      },
      m);
  PyCapsule_SetName(capsule, "used_dltensor");
  PyCapsule_SetDestructor(capsule, nullptr);
  return a;
}

PyObject* from_buffer(PyObject*, PyObject* source) {
  return guarded([&] { return wrap(array_on(source)); });
}
PyObject* to_dlpack(PyObject*, PyObject* tensor) {
  return guarded([&] { return capsule_of(Args("to_dlpack", &tensor, 1, 1).tensor(0, "tensor")); });
}
PyObject* from_dlpack(PyObject*, PyObject* capsule) {
  return guarded([&] { return wrap(from_capsule(capsule)); });
}

PyObject* share_memory(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("share_memory_", &tensor, 1, 1).tensor(0, "self");
    if (capturing()) refuse_memory("share_memory_");
    return PyLong_FromLong(share(*a.storage.get()));
  });
}
PyObject* shared_memory(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("is_shared", &tensor, 1, 1).tensor(0, "self");
    const Storage& s = *a.storage.get();
    return Py_BuildValue("inK", shared_descriptor(s), Py_ssize_t(s.bytes),
                         static_cast<unsigned long long>(shared_file(s)));
  });
}
PyObject* storage_bytes(PyObject*, PyObject* tensor) {
  return guarded([&] {
    const Array& a = Args("storage_bytes", &tensor, 1, 1).tensor(0, "tensor");
    return PyLong_FromSize_t(a.storage->bytes);
  });
}

PyObject* on_memory(const StorageRef& storage, DType dtype) {
  Array a;
  a.dtype = dtype;
  a.storage = storage;
  a.shape.push(int64_t(storage->bytes / a.item()));
  a.strides.push(1);
  return wrap(a);
}

PyObject* open_memory(PyObject*, PyObject* const* values, Py_ssize_t n) {
  return guarded([&] {
    const Args args("open_shared", values, n, 3);
    const StorageRef storage =
        open_shared(int(args.integer(0, "descriptor")), size_t(args.integer(1, "bytes")));
    return on_memory(storage, args.dtype(2, "dtype"));
  });
}

PyObject* find_memory(PyObject*, PyObject* const* values, Py_ssize_t n) {
  return guarded([&]() -> PyObject* {
    const Args args("find_shared", values, n, 2);
    const StorageRef storage = find_shared(uint64_t(args.integer(0, "file")));
    if (!storage) Py_RETURN_NONE;
    return on_memory(storage, args.dtype(1, "dtype"));
  });
}

PyMethodDef functions[] = {
    {"storage_bytes", storage_bytes, METH_O, "The bytes of the memory that a tensor is a view of."},
    {"share", share_memory, METH_O, "Move a tensor's memory to where processes share it."},
    {"shared_descriptor", shared_memory, METH_O,
     "The file descriptor of shared memory, or -1, its bytes and the number of its file."},
    {"find_shared", fast(find_memory), METH_FASTCALL,
     "The shared memory of this process that has a file number, or None."},
    {"open_shared", fast(open_memory), METH_FASTCALL,
     "All of the shared memory of a file descriptor, as elements of a dtype."},
    {"from_buffer", from_buffer, METH_O,
     "A tensor on the memory of an object with the buffer protocol."},
    {"to_dlpack", to_dlpack, METH_O, "A DLPack capsule on the tensor's memory."},
    {"from_dlpack", from_dlpack, METH_O, "A tensor on the memory of a DLPack capsule."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_exchange_functions(PyObject* module) {
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace backtrail

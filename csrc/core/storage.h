// Storage: 64-byte aligned, reference-counted bytes from a pool, shared by all views of a tensor.
//
// Storages are made and released by threads that hold the GIL, which therefore guards the pool and
// the counts; kernels that run without the GIL only read and write the bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace backtrail {

constexpr size_t kAlignment = 64;

// Under the address sanitizer blocks have just the size asked for and are not kept for reuse: what
// reads past them, or too late, is seen.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kExactBlocks = true;
#else
constexpr bool kExactBlocks = false;
#endif

struct Storage {
  int64_t refs;
  void* data;
  size_t bytes;
  const char* writer;      // name of the last in-place operation, for error messages
  void (*release)(void*);  // for memory that is not ours; null for pooled memory
  void* owner;             // argument of `release`; of guarded memory: its pattern and 1
  uint32_t version;        // counts in-place changes
  uint32_t size_class;     // pool list this block returns to
  uint64_t serial;         // of this use of the memory: never the same twice
};
static_assert(sizeof(Storage) <= kAlignment, "the header must fit before the data");

// A counted reference to a Storage. Null when default-constructed.
class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* adopted) : storage_(adopted) {}
  StorageRef(const StorageRef& other) : storage_(other.storage_) {
    if (storage_) ++storage_->refs;
  }
  StorageRef(StorageRef&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    if (storage_ && --storage_->refs == 0) destroy(storage_);
  }
  Storage* operator->() const { return storage_; }
  Storage* get() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }

 private:
  static void destroy(Storage*);
  Storage* storage_ = nullptr;
};

// The serial of the newest storage; and a function to call with that of each storage that goes, or
// null.
uint64_t last_serial();
void watch_storages(void (*freed)(uint64_t serial));

// Uninitialised pooled bytes. Throws Error(memory) when the system has none left.
StorageRef allocate(size_t bytes);

// Wrap memory owned by someone else; `release(owner)` runs when the last reference goes.
StorageRef adopt(void* data, size_t bytes, void (*release)(void*), void* owner);

// Move the bytes, if they are not there yet, to memory that processes share: forked ones by
// inheritance, others by its file descriptor, which is returned. Throws Error(runtime) for memory
// of another library, Error(memory) when the system has none left.
int share(Storage& s);
int shared_descriptor(const Storage& s);  // -1 when it is not shared
uint64_t shared_file(const Storage& s);   // the same in every process; 0 when it is not shared
StorageRef find_shared(uint64_t file);    // null when this process does not have it
StorageRef open_shared(int descriptor, size_t bytes);  // duplicates the descriptor

struct PoolStats {
  size_t in_use, cached, peak;  // bytes
};
PoolStats pool_stats();
void reset_peak();
void empty_cache();  // give cached blocks back to the system

// For tests of ops. From now on pooled memory begins filled with bytes of a pattern (negative: no
// longer) and lies between two zones of it, so that it shows what is read but was never written and
// what is written but belongs to nobody.
void guard_storages(int pattern);
// Where the memory around a guarded storage was written first: at that many bytes before its first
// (negative) or after its last (positive); 0 when nowhere.
int64_t guard_damage(const Storage& s);
// That of the storages that went since guard_storages(), the first that was not 0.
int64_t released_damage();

}  // namespace backtrail

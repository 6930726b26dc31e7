#include "core/storage.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unordered_map>
#include <vector>

#include "core/error.h"

namespace backtrail {
namespace {

// Size classes: multiples of 64 bytes up to 1 KiB, then four steps to each power of two, so that a
// block is at most a quarter larger than asked for.
constexpr size_t kLinear = 1024;
constexpr size_t kClasses = 16 + 4 * 40;
constexpr size_t kSpare = size_t(64) << 20;  // that the pool may keep in any case
constexpr size_t kPage = 4096, kHugePage = size_t(2) << 20;
constexpr size_t kMapped = size_t(256) << 10;  // blocks of so many bytes are pages of their own
constexpr size_t kHuge = 2 * kHugePage;        // and of so many, huge ones

struct SizeClass {
  uint32_t index;
  size_t bytes;
};

SizeClass size_class(size_t bytes) {
  if (bytes <= kLinear) {
    size_t steps = bytes == 0 ? 1 : (bytes + 63) / 64;
    return {uint32_t(steps - 1), steps * 64};
  }
  int power = 63 - __builtin_clzll(bytes - 1);  // 2^power < bytes <= 2^(power+1)
  size_t quarter = size_t(1) << (power - 2);
  size_t steps = (bytes - 1 - (size_t(1) << power)) / quarter;
  return {uint32_t(16 + 4 * (power - 10) + steps), (size_t(1) << power) + (steps + 1) * quarter};
}

size_t cache_limit() {
  static const size_t limit = [] {
    size_t ram = size_t(sysconf(_SC_PHYS_PAGES)) * size_t(sysconf(_SC_PAGE_SIZE));
    return std::min(ram / 8, size_t(4) << 30);
  }();
  return limit;
}

struct Pool {
  std::vector<void*> free[kClasses];
  PoolStats stats{0, 0, 0};
};
Pool& pool() {
  static Pool* p = new Pool;  // never destroyed: tensors may outlive static destructors
  return *p;
}

uint64_t serial = 0;
int guard_pattern = -1;
int64_t damage_released = 0;
constexpr size_t kZone = 4096;  // bytes before and after guarded memory
void (*watcher)(uint64_t) = nullptr;

size_t class_bytes(uint32_t index) {
  if (index < 16) return (index + 1) * 64;
  uint32_t power = 10 + (index - 16) / 4, step = (index - 16) % 4;
  return (size_t(1) << power) + (step + 1) * (size_t(1) << (power - 2));
}

// Of a block with its header.
size_t total_bytes(size_t class_size) {
  const size_t unit = class_size >= kHuge ? kHugePage : class_size >= kMapped ? kPage : kAlignment;
  return (kAlignment + class_size + unit - 1) / unit * unit;
}

// A block of a class from the system; null when it has none. Large ones are mapped, so that they go
// back when they are released, whatever lies around them.
void* take(size_t class_size, size_t bytes) {
  const size_t total = total_bytes(class_size);
  if (class_size < kMapped) return std::aligned_alloc(kAlignment, total);
  const size_t spare = class_size >= kHuge ? kHugePage : 0;  // to begin on a huge page
  void* mapped =
      mmap(nullptr, total + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (!spare) return mapped;
  char* start = static_cast<char*>(mapped);
  char* block = start + (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  if (block > start) munmap(start, size_t(block - start));
  munmap(block + total, kHugePage - size_t(block - start));
#ifdef MADV_HUGEPAGE
  const size_t whole = (kAlignment + bytes) / kHugePage * kHugePage;  // what will fill its pages
  madvise(block, whole, MADV_HUGEPAGE);
  madvise(block + whole, total - whole, MADV_NOHUGEPAGE);
#endif
  return block;
}

void give_back(void* block, size_t class_size) {
  if (kExactBlocks || class_size < kMapped)
    std::free(block);
  else
    munmap(block, total_bytes(class_size));
}

// Before a block of another size is taken: give back cached ones that are no longer needed, the
// largest first, as long as they are many beside what is in use.
void make_room(size_t wanted) {
  Pool& p = pool();
  const size_t allowed = std::max(kSpare, p.stats.in_use / 8);
  size_t freed = 0;
  for (size_t i = kClasses; i-- > 0 && freed < wanted && p.stats.cached > allowed;)
    for (auto& list = p.free[i]; !list.empty() && freed < wanted;) {
      const size_t bytes = class_bytes(uint32_t(i));
      give_back(list.back(), bytes);
      list.pop_back();
      p.stats.cached -= bytes;
      freed += bytes;
    }
}

}  // namespace

StorageRef allocate(size_t bytes) {
  Pool& p = pool();
  if (bytes > (size_t(1) << 46))
    fail(ErrorKind::memory, "out of memory: cannot allocate %zu bytes", bytes);
  const size_t size = bytes, zone = guard_pattern < 0 ? 0 : kZone;
  bytes += 2 * zone;
  SizeClass sc = size_class(bytes);
  auto& list = p.free[sc.index];
  void* block;
  if (!list.empty()) {
    block = list.back();
    list.pop_back();
    p.stats.cached -= sc.bytes;
  } else if (kExactBlocks) {
    if (posix_memalign(&block, kAlignment, kAlignment + bytes))
      fail(ErrorKind::memory, "out of memory: cannot allocate %zu bytes", bytes);
  } else {
    if (sc.bytes >= kMapped) make_room(sc.bytes);
    block = take(sc.bytes, bytes);
    if (!block && p.stats.cached) {
      empty_cache();
      block = take(sc.bytes, bytes);
    }
    if (!block) fail(ErrorKind::memory, "out of memory: cannot allocate %zu bytes", bytes);
  }
  p.stats.in_use += sc.bytes;
  p.stats.peak = std::max(p.stats.peak, p.stats.in_use);
  char* data = static_cast<char*>(block) + kAlignment;
  if (zone) std::memset(data, guard_pattern, bytes);
  void* guard = zone ? reinterpret_cast<void*>(intptr_t(guard_pattern) + 1) : nullptr;
  return StorageRef(
      new (block) Storage{1, data + zone, size, nullptr, nullptr, guard, 0, sc.index, ++serial});
}

StorageRef adopt(void* data, size_t bytes, void (*release)(void*), void* owner) {
  return StorageRef(new Storage{1, data, bytes, nullptr, release, owner, 0, 0, ++serial});
}

namespace {

struct Shared {
  void* data;
  size_t bytes;
  int descriptor;
  bool from_pool;  // the Storage is still the header of a block of the pool
  uint64_t file;   // number of the anonymous file
};

// The shared memory of this process, by number of its file.
std::unordered_map<uint64_t, Storage*>& known_shared() {
  static auto* known = new std::unordered_map<uint64_t, Storage*>;
  return *known;
}

void release_shared(void* owner) {
  Shared* shared = static_cast<Shared*>(owner);
  known_shared().erase(shared->file);
  munmap(shared->data, shared->bytes);
  close(shared->descriptor);
  delete shared;
}

// Maps what the descriptor stands for, and takes it over; closes it on failure.
Shared* map_shared(int descriptor, size_t bytes) {
  void* data = descriptor < 0
                   ? MAP_FAILED
                   : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) {
    if (descriptor >= 0) close(descriptor);
    fail(ErrorKind::memory, "out of memory: cannot share %zu bytes", bytes);
  }
  struct stat status {};
  fstat(descriptor, &status);
  return new Shared{data, bytes, descriptor, false, uint64_t(status.st_ino)};
}

size_t mapped_bytes(size_t bytes) { return bytes ? bytes : 1; }

}  // namespace

int shared_descriptor(const Storage& s) {
  return s.release == release_shared ? static_cast<Shared*>(s.owner)->descriptor : -1;
}

uint64_t shared_file(const Storage& s) {
  return s.release == release_shared ? static_cast<Shared*>(s.owner)->file : 0;
}

StorageRef find_shared(uint64_t file) {
  const auto it = known_shared().find(file);
  if (it == known_shared().end()) return {};
  ++it->second->refs;
  return StorageRef(it->second);
}

int share(Storage& s) {
  if (s.release == release_shared) return shared_descriptor(s);
  if (s.release || s.owner)
    fail(ErrorKind::runtime, "share_memory_: the memory belongs to another library; use x.clone()");
  const size_t bytes = mapped_bytes(s.bytes);
  int descriptor = memfd_create("backtrail", MFD_CLOEXEC);
  if (descriptor >= 0 && ftruncate(descriptor, off_t(bytes))) {
    close(descriptor);
    descriptor = -1;
  }
  Shared* shared = map_shared(descriptor, bytes);
  shared->from_pool = true;
  std::memcpy(shared->data, s.data, s.bytes);
  s.data = shared->data;
  s.owner = shared;
  s.release = release_shared;
  known_shared()[shared->file] = &s;
  return descriptor;
}

StorageRef open_shared(int descriptor, size_t bytes) {
  Shared* shared = map_shared(dup(descriptor), mapped_bytes(bytes));
  StorageRef made = adopt(shared->data, bytes, release_shared, shared);
  known_shared()[shared->file] = made.get();
  return made;
}

void StorageRef::destroy(Storage* s) {
  if (watcher) watcher(s->serial);
  if (s->release == release_shared && static_cast<Shared*>(s->owner)->from_pool) {
    release_shared(s->owner);
    s->release = nullptr;
    s->owner = nullptr;
  }
  if (s->release) {
    s->release(s->owner);
    delete s;
    return;
  }
  if (s->owner && !damage_released) damage_released = guard_damage(*s);
  Pool& p = pool();
  size_t bytes = class_bytes(s->size_class);
  p.stats.in_use -= bytes;
  if (kExactBlocks || p.stats.cached + bytes > cache_limit()) {
    give_back(s, bytes);
    return;
  }
  p.stats.cached += bytes;
  p.free[s->size_class].push_back(s);
}

uint64_t last_serial() { return serial; }
void watch_storages(void (*freed)(uint64_t)) { watcher = freed; }

void guard_storages(int pattern) {
  guard_pattern = pattern;
  damage_released = 0;
}

int64_t guard_damage(const Storage& s) {
  if (s.release || !s.owner) return 0;
  const auto pattern = static_cast<unsigned char>(reinterpret_cast<intptr_t>(s.owner) - 1);
  const auto* first = static_cast<const unsigned char*>(s.data);
  for (int64_t i = 1; i <= int64_t(kZone); ++i) {
    if (first[-i] != pattern) return -i;
    if (first[int64_t(s.bytes) + i - 1] != pattern) return i;
  }
  return 0;
}

int64_t released_damage() { return damage_released; }

PoolStats pool_stats() { return pool().stats; }
void reset_peak() { pool().stats.peak = pool().stats.in_use; }

void empty_cache() {
  Pool& p = pool();
  for (size_t i = 0; i < kClasses; ++i) {
    for (void* block : p.free[i]) give_back(block, class_bytes(uint32_t(i)));
    p.free[i].clear();
  }
  p.stats.cached = 0;
}

}  // namespace backtrail

# CMake's package of backtrail: libraries of ops for a package that ships them compiled.
#
#   find_package(backtrail CONFIG REQUIRED)
#   backtrail_add_ops(snake src/snake.cpp)
#
# builds snake.v2.so, snake.v3.so and snake.v4.so, one for each instruction set (snake.base.so where
# there is but one), of which `backtrail.cpp_extension.load_library("snake")` takes the best that the
# CPU can run. In a build by scikit-build-core they are installed into the package of the project's
# name, or into the folder that DESTINATION names:
#
#   backtrail_add_ops(NAME source... [DESTINATION folder])
#
# NAME is a target too: it builds them all. Other libraries are linked with
# target_link_libraries(NAME.v3 PRIVATE ...) for each one of `backtrail_TARGETS_NAME`.
# -DBACKTRAIL_ISAS=v3 builds for one instruction set alone.

if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  message(FATAL_ERROR "backtrail's headers need GCC or Clang: write `project(... LANGUAGES CXX)` "
                      "before find_package(backtrail), and set CXX=g++ or CXX=clang++.")
endif()

# In an installation; in a checkout, which is where an editable installation has this file.
foreach(folder ../include ../../../csrc/include)
  get_filename_component(backtrail_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/${folder}" ABSOLUTE)
  if(EXISTS "${backtrail_INCLUDE_DIR}/backtrail/op.h")
    break()
  endif()
endforeach()

# The flags of one line of flags.txt, which `load` of Python reads too.
function(_backtrail_flags kind result)
  file(STRINGS "${backtrail_INCLUDE_DIR}/backtrail/flags.txt" line REGEX "^${kind}:")
  string(REGEX REPLACE "^${kind}:" "" line "${line}")
  separate_arguments(flags UNIX_COMMAND "${line}")
  set(${result} "${flags}" PARENT_SCOPE)
endfunction()

include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-std=c++20 BACKTRAIL_HAS_CXX20)

set(_isas base)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(_isas v2 v3 v4)
endif()
set(BACKTRAIL_ISAS ${_isas} CACHE STRING "Instruction sets to build ops for")
unset(_isas)

function(backtrail_add_ops name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" DESTINATION "")
  set(sources ${arg_UNPARSED_ARGUMENTS})
  if(NOT sources)
    message(FATAL_ERROR "backtrail_add_ops(${name}): got no source file")
  endif()
  if(NOT arg_DESTINATION)
    set(arg_DESTINATION "${SKBUILD_PROJECT_NAME}")
  endif()
  if(BACKTRAIL_HAS_CXX20)
    set(standard -std=c++20)
  else()
    set(standard -std=c++17)
  endif()
  foreach(kind all warnings link)
    _backtrail_flags(${kind} ${kind})
  endforeach()

  set(targets)
  foreach(isa IN LISTS BACKTRAIL_ISAS)
    set(target ${name}.${isa})
    _backtrail_flags(${isa} machine)
    add_library(${target} MODULE ${sources})
    set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".so")
    target_include_directories(${target} SYSTEM PRIVATE "${backtrail_INCLUDE_DIR}")
    target_compile_definitions(${target} PRIVATE BACKTRAIL_TARGET=${isa})
    target_compile_options(${target} PRIVATE ${standard} ${all} ${warnings} ${machine})
    target_link_options(${target} PRIVATE ${link})
    list(APPEND targets ${target})
  endforeach()
  add_custom_target(${name} DEPENDS ${targets})
  set(backtrail_TARGETS_${name} ${targets} PARENT_SCOPE)
  if(arg_DESTINATION)
    install(TARGETS ${targets} LIBRARY DESTINATION "${arg_DESTINATION}")
  endif()
endfunction()

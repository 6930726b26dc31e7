// Ops that move elements by position; their rows in the op table are in index.cpp.
#pragma once
#include "exec/op.h"

namespace backtrail {

void prepare_cat(Call&);
void execute_cat(const Call&);
void prepare_triangle(Call&);
void execute_tril(const Call&);
void execute_triu(const Call&);
void prepare_flip(Call&);
void execute_flip(const Call&);
void prepare_roll(Call&);
void execute_roll(const Call&);
void prepare_repeat_interleave(Call&);
void execute_repeat_interleave(const Call&);
void prepare_diag_embed(Call&);
void execute_diag_embed(const Call&);
void prepare_one_hot(Call&);
void execute_one_hot(const Call&);
void prepare_nonzero(Call&);
void execute_nonzero(const Call&);

}  // namespace backtrail

//! A matrix with the operations that the model needs.

/// A matrix in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            values: vec![0.0; rows * columns],
        }
    }

    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }

    pub(crate) fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.columns)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.columns..][..self.columns]
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    pub(crate) fn transposed(&self) -> Self {
        let mut turned = Self::zeros(self.columns, self.rows().len());
        for (r, row) in self.rows().enumerate() {
            for (c, value) in row.iter().enumerate() {
                turned.values[c * turned.columns + r] = *value;
            }
        }
        turned
    }

    /// Adds the product of `left` and `right`.
    ///
    /// Each row of the result is a sum of rows of `right`, so the inner loop runs along contiguous
    /// memory and becomes vector instructions; four rows at a time, so that the result is read and
    /// written a quarter as often.
    pub(crate) fn add_product(&mut self, left: &Matrix, right: &Matrix) {
        assert_eq!(left.columns, right.rows().len(), "the inner sizes of a product agree");
        assert_eq!(self.columns, right.columns, "the widths of a product agree");
        let width = self.columns;
        for (out, factors) in self.rows_mut().zip(left.rows()) {
            let mut blocks = right.values.chunks_exact(4 * width);
            let mut fours = factors.chunks_exact(4);
            for (f, block) in (&mut fours).zip(&mut blocks) {
                let (a, rest) = block.split_at(width);
                let (b, rest) = rest.split_at(width);
                let (c, d) = rest.split_at(width);
                for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *out += f[0] * a + f[1] * b + f[2] * c + f[3] * d;
                }
            }
            let rows = blocks.remainder().chunks_exact(width);
            for (factor, row) in fours.remainder().iter().zip(rows) {
                for (out, value) in out.iter_mut().zip(row) {
                    *out += factor * value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random(rows: usize, columns: usize, rng: &mut Rng) -> Matrix {
        let mut matrix = Matrix::zeros(rows, columns);
        matrix.values_mut().fill_with(|| rng.unit() - 0.5);
        matrix
    }

    #[test]
    fn a_product_is_rows_times_columns() {
        let mut rng = Rng::new(1);
        for inner in 1..10 {
            let (left, right) = (random(3, inner, &mut rng), random(inner, 5, &mut rng));
            let before = random(3, 5, &mut rng);
            let mut product = before.clone();
            product.add_product(&left, &right);
            let columns = right.transposed();
            for (r, row) in product.rows().enumerate() {
                for (c, value) in row.iter().enumerate() {
                    let dot: f32 = left.row(r).iter().zip(columns.row(c)).map(|(a, b)| a * b).sum();
                    assert!((value - before.row(r)[c] - dot).abs() < 1e-6);
                }
            }
        }
    }
}

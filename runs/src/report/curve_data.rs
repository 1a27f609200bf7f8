//! Curves as JSON, with their numbers in base64.
//!
//! | member | numbers, little endian |
//! |---|---|
//! | `steps` | `u32` above `step0`; `f64` if `wide` |
//! | `times` | `f32`, seconds after `time0` |
//! | `values` | `f64`, so that NaN and the infinities stay what they are |
//! | `sizes` | `u8`, the number of points of each bucket; only if the buckets are wider than a value |
//! | `means` | `f32`, the mean of each bucket; only with `sizes` |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::report::page::escape;
use crate::{Curve, CurveBucket, CurvePoint};

/// Returns about as many bytes as [`encode`] needs, and never fewer for names without escapes.
pub(super) fn encoded_len(curve: &Curve) -> usize {
    let points: usize = match curve.width() {
        1 => curve.buckets().len(),
        _ => curve.buckets().iter().map(|bucket| bucket.points().count()).sum(),
    };
    let buckets = if curve.width() == 1 { 0 } else { curve.buckets().len() };
    let numbers = points * (4 + 4 + 8) + buckets * (1 + 4);
    numbers.div_ceil(3) * 4 + FRAME + curve.name().len() + curve.logger().len()
}

/// Bytes of the JSON around the numbers and names.
const FRAME: usize = 340;

/// Returns the curve as JSON for the page.
pub(super) fn encode(curve: &Curve) -> String {
    let points: Vec<CurvePoint> = curve.buckets().iter().flat_map(CurveBucket::points).collect();
    let step0 = points.iter().map(|point| point.step).min().unwrap_or(0);
    let time0 = points.first().map_or(0.0, |point| point.time);
    let offsets: Option<Vec<u32>> = points
        .iter()
        .map(|point| u32::try_from(point.step - step0).ok())
        .collect();
    let steps = match &offsets {
        Some(offsets) => encode_bytes(offsets.iter().map(|offset| offset.to_le_bytes())),
        #[expect(clippy::cast_precision_loss, reason = "the page has no other numbers")]
        None => encode_bytes(points.iter().map(|point| (point.step as f64).to_le_bytes())),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a week in seconds keeps a tenth of a second"
    )]
    let times = encode_bytes(points.iter().map(|point| ((point.time - time0) as f32).to_le_bytes()));
    let mut data = json!({
        "name": curve.name(),
        "logger": curve.logger(),
        "rank": curve.rank(),
        "count": curve.count(),
        "nonfinite": curve.nonfinite(),
        "width": curve.width(),
        "step0": step0,
        "step1": points.iter().map(|point| point.step).max(),
        "time0": time0,
        "time1": points.last().map(|point| point.time),
        "wide": offsets.is_none(),
        "steps": steps,
        "times": times,
        "values": encode_bytes(points.iter().map(|point| point.value.to_le_bytes())),
    });
    if curve.width() > 1 {
        let buckets = curve.buckets();
        let sizes = buckets
            .iter()
            .map(|bucket| u8::try_from(bucket.points().count()).unwrap_or(u8::MAX));
        data["sizes"] = encode_bytes(sizes.map(|size| [size])).into();
        #[expect(clippy::cast_possible_truncation, reason = "a mean is drawn, and never read")]
        let means = buckets.iter().map(|bucket| (bucket.mean() as f32).to_le_bytes());
        data["means"] = encode_bytes(means).into();
    }
    escape(&data.to_string())
}

fn encode_bytes<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> String {
    STANDARD.encode(numbers.flatten().collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<const N: usize>(data: &serde_json::Value, name: &str) -> Vec<[u8; N]> {
        let bytes = STANDARD.decode(data[name].as_str().unwrap()).unwrap();
        bytes.chunks(N).map(|chunk| chunk.try_into().unwrap()).collect()
    }

    #[test]
    fn values_read_back_to_the_last_bit() {
        let mut curve = Curve::new("a", "</script>\u{2028}", 3, 16);
        let values = [0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX];
        for (step, value) in (7..).zip(values) {
            curve.add(CurvePoint {
                step,
                time: 100.5,
                value,
            });
        }
        let text = encode(&curve);
        assert!(!text.contains('<') && text.len() <= encoded_len(&curve));
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (data["name"].as_str(), data["nonfinite"].as_u64()),
            (Some("</script>\u{2028}"), Some(3))
        );
        let read: Vec<u64> = decode(&data, "values").into_iter().map(u64::from_le_bytes).collect();
        assert_eq!(read, values.map(f64::to_bits));
        let steps: Vec<u32> = decode(&data, "steps").into_iter().map(u32::from_le_bytes).collect();
        assert_eq!((steps, data["step0"].as_u64()), (vec![0, 1, 2, 3, 4, 5], Some(7)));
    }

    #[test]
    fn steps_far_apart_are_floats() {
        let mut curve = Curve::new("a", "loss", 0, 16);
        for step in [1, u64::MAX] {
            curve.add(CurvePoint {
                step,
                time: 0.0,
                value: 1.0,
            });
        }
        let data: serde_json::Value = serde_json::from_str(&encode(&curve)).unwrap();
        let steps: Vec<f64> = decode(&data, "steps").into_iter().map(f64::from_le_bytes).collect();
        assert_eq!(
            (steps, data["wide"].as_bool()),
            (vec![1.0, 18_446_744_073_709_551_615.0], Some(true))
        );
    }

    #[test]
    fn thinned_curves_say_how_their_points_belong_together() {
        let mut curve = Curve::new("a", "loss", 0, 4);
        for (step, value) in (0..).zip([1.0, 5.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0]) {
            curve.add(CurvePoint { step, time: 0.0, value });
        }
        curve.thin(2);
        let text = encode(&curve);
        assert!(text.len() <= encoded_len(&curve));
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(decode::<1>(&data, "sizes"), [[4], [2]]);
        let means: Vec<f32> = decode(&data, "means").into_iter().map(f32::from_le_bytes).collect();
        assert_eq!(means, [2.25, 2.0]);
    }
}

//! Images.

use imagesize::ImageType;
use serde_json::json;

use super::sealed::Prepare;
use super::{MediaError, PreparedFile, PreparedMedia};

/// An image with an optional caption.
///
/// ```
/// use logcore_wandb::Image;
///
/// // Two pixels side by side, red and blue.
/// let image = Image::rgb(2, 1, [255, 0, 0, 0, 0, 255]).caption("a flag");
/// assert_ne!(image, Image::rgb(1, 2, [255, 0, 0, 0, 0, 255]).caption("a flag"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    content: ImageContent,
    caption: Option<String>,
}

/// The content of an image.
#[derive(Debug, Clone, PartialEq)]
enum ImageContent {
    Encoded(Vec<u8>),
    Pixels {
        width: u32,
        height: u32,
        channels: Channels,
        bytes: Vec<u8>,
    },
}

/// The bytes of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channels {
    Grey = 1,
    Rgb = 3,
    Rgba = 4,
}

impl Image {
    /// Creates an image from a PNG or JPEG file.
    ///
    /// ```
    /// use logcore_wandb::Image;
    ///
    /// let jpeg: &[u8] = &[0xff, 0xd8, 0xff];
    /// assert_ne!(Image::encoded(jpeg), Image::encoded([]));
    /// ```
    #[must_use]
    pub fn encoded(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            content: ImageContent::Encoded(bytes.into()),
            caption: None,
        }
    }

    /// Creates an image from pixels of three bytes, red, green and blue, row by row from the top.
    ///
    /// ```
    /// use logcore_wandb::Image;
    ///
    /// // One red pixel.
    /// assert_eq!(Image::rgb(1, 1, [255, 0, 0]), Image::rgb(1, 1, vec![255, 0, 0]));
    /// ```
    #[must_use]
    pub fn rgb(width: u32, height: u32, pixels: impl Into<Vec<u8>>) -> Self {
        Self::pixels(width, height, Channels::Rgb, pixels.into())
    }

    /// Creates an image from pixels of four bytes, red, green, blue and opacity (255 is opaque).
    ///
    /// ```
    /// use logcore_wandb::Image;
    ///
    /// // One transparent pixel.
    /// assert_ne!(Image::rgba(1, 1, [255, 0, 0, 0]), Image::rgb(1, 1, [255, 0, 0]));
    /// ```
    #[must_use]
    pub fn rgba(width: u32, height: u32, pixels: impl Into<Vec<u8>>) -> Self {
        Self::pixels(width, height, Channels::Rgba, pixels.into())
    }

    /// Creates an image from pixels of one byte, from black (0) to white (255).
    ///
    /// ```
    /// use logcore_wandb::Image;
    ///
    /// // A black and a white pixel.
    /// assert_ne!(Image::grey(2, 1, [0, 255]), Image::grey(1, 2, [0, 255]));
    /// ```
    #[must_use]
    pub fn grey(width: u32, height: u32, pixels: impl Into<Vec<u8>>) -> Self {
        Self::pixels(width, height, Channels::Grey, pixels.into())
    }

    /// Sets the caption.
    ///
    /// ```
    /// use logcore_wandb::Image;
    ///
    /// let image = Image::grey(1, 1, [0]);
    /// assert_ne!(image.clone().caption("black"), image);
    /// ```
    #[must_use]
    pub fn caption(mut self, text: impl Into<String>) -> Self {
        self.caption = Some(text.into());
        self
    }

    fn pixels(width: u32, height: u32, channels: Channels, bytes: Vec<u8>) -> Self {
        Self {
            content: ImageContent::Pixels {
                width,
                height,
                channels,
                bytes,
            },
            caption: None,
        }
    }
}

impl Prepare for Image {
    fn prepare(self) -> Result<PreparedMedia, MediaError> {
        let (format, width, height, bytes) = match self.content {
            ImageContent::Encoded(bytes) => {
                let format = match imagesize::image_type(&bytes) {
                    Ok(ImageType::Png) => "png",
                    Ok(ImageType::Jpeg) => "jpg",
                    _ => {
                        return Err(malformed(format!(
                            "an image of {} bytes is neither PNG nor JPEG",
                            bytes.len()
                        )));
                    }
                };
                let size = imagesize::blob_size(&bytes)
                    .map_err(|error| malformed(format!("cannot read the size of a {format} image: {error}")))?;
                (format, size.width, size.height, bytes)
            }
            ImageContent::Pixels {
                width,
                height,
                channels,
                bytes,
            } => {
                let wanted = u128::from(width) * u128::from(height) * channels as u128;
                if wanted != bytes.len() as u128 || wanted == 0 {
                    let what = format!(
                        "an image of {width} x {height} pixels of {} bytes needs {wanted} bytes (not 0), and has {}",
                        channels as u8,
                        bytes.len()
                    );
                    return Err(malformed(what));
                }
                (
                    "png",
                    width as usize,
                    height as usize,
                    png(width, height, channels, &bytes)?,
                )
            }
        };
        let mut value = json!({"_type": "image-file", "format": format, "width": width, "height": height});
        if let Some(caption) = self.caption {
            value["caption"] = caption.into();
        }
        Ok(PreparedMedia {
            value,
            file: Some(PreparedFile {
                folder: "images",
                suffix: if format == "png" { ".png" } else { ".jpg" },
                bytes,
            }),
            artifact: None,
            remark: None,
        })
    }
}

/// Encodes pixels as PNG.
fn png(width: u32, height: u32, channels: Channels, pixels: &[u8]) -> Result<Vec<u8>, MediaError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match channels {
        Channels::Grey => png::ColorType::Grayscale,
        Channels::Rgb => png::ColorType::Rgb,
        Channels::Rgba => png::ColorType::Rgba,
    });
    let failed = |error: png::EncodingError| malformed(format!("cannot encode an image as PNG: {error}"));
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

fn malformed(text: String) -> MediaError {
    MediaError::Malformed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_a_png_of_their_size() {
        let prepared = Image::rgb(3, 2, vec![7; 18]).caption("c").prepare().unwrap();
        assert_eq!(prepared.value["width"], 3);
        assert_eq!(prepared.value["caption"], "c");
        let bytes = prepared.file.unwrap().bytes;
        let again = Image::encoded(bytes).prepare().unwrap();
        assert_eq!(
            (&again.value["format"], &again.value["height"]),
            (&json!("png"), &json!(2))
        );
    }

    #[test]
    fn malformed_images_are_refused() {
        for image in [
            Image::encoded(b"GIF89a".to_vec()),
            Image::encoded([0xff, 0xd8, 0xff].to_vec()),
            Image::encoded([]),
            Image::rgb(2, 2, vec![0; 11]),
            Image::rgb(0, 0, []),
            Image::rgba(u32::MAX, u32::MAX, [1]),
        ] {
            assert!(image.prepare().is_err());
        }
    }
}

//! Images.

#[cfg(feature = "media")]
use imagesize::ImageType;

#[cfg(feature = "media")]
use super::{EncodedMedia, MediaContent, MediaError, sealed::Encode};

/// An image with an optional caption.
///
/// ```
/// use logcore::Image;
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
    /// use logcore::Image;
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
    /// use logcore::Image;
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
    /// use logcore::Image;
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
    /// use logcore::Image;
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
    /// use logcore::Image;
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

#[cfg(feature = "media")]
impl Encode for Image {
    fn encode(self) -> Result<EncodedMedia, MediaError> {
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
                if wanted == 0 {
                    let what = format!("an image of {width} x {height} has no pixel; use at least 1 x 1");
                    return Err(malformed(what));
                }
                if wanted != bytes.len() as u128 {
                    let what = format!(
                        "an image of {width} x {height} pixels of {} bytes needs {wanted} bytes, and has {}",
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
        let suffix = if format == "png" { ".png" } else { ".jpg" };
        let content = MediaContent::Image {
            format: format.to_owned(),
            width: width as u64,
            height: height as u64,
        };
        Ok(EncodedMedia {
            caption: self.caption,
            ..EncodedMedia::new(content).with_file(suffix, bytes)
        })
    }
}

/// Encodes pixels as PNG.
#[cfg(feature = "media")]
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

#[cfg(feature = "media")]
fn malformed(text: String) -> MediaError {
    MediaError::Malformed(text)
}

#[cfg(all(test, feature = "media"))]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_a_png_of_their_size() {
        let encoded = Image::rgb(3, 2, vec![7; 18]).caption("c").encode().unwrap();
        let content = MediaContent::Image {
            format: "png".to_owned(),
            width: 3,
            height: 2,
        };
        assert_eq!((&encoded.content, encoded.caption.as_deref()), (&content, Some("c")));
        let again = Image::encoded(encoded.file.unwrap().bytes).encode().unwrap();
        assert_eq!((again.content, again.caption), (content, None));
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
            assert!(image.encode().is_err());
        }
    }
}

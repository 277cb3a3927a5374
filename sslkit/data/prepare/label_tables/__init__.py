"""Tables that name the classes of images: reading one, and finding them among the files of a source."""

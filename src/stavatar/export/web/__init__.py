"""The web player: an avatar distilled into one small file, and a static page that poses, sorts and draws it."""

"""The devices that measurements run on: this host, phones over adb, and iPhones."""

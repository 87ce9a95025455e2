/* A USB camera at /dev/video42 for whoever loads this before the C library (LD_PRELOAD): what V4L2 asks of one.

   CAMERA_MODES   what it offers, best first: "MJPG:1920x1080@30,YUYV:640x480@30"
   CAMERA_FOLDER  its pictures 0.jpg, 1.jpg, ... are sent one after the other, again and again (MJPG); a file "gone"
                  there unplugs it, a file "hang" hangs it, and it writes into "asked" what it was asked for and gives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define ME "/dev/video42"
#define SLOT (16 << 20)
#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

struct mode { unsigned format, width, height, fps; };
static struct mode modes[16];
static int count, fd = -1, queue[8], queued;
static struct mode now;
static unsigned sequence;

static FILE *beside(const char *name, const char *how) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("CAMERA_FOLDER"), name);
    return fopen(path, how);
}
static int there(const char *name) {
    FILE *file = beside(name, "r");
    if (file) fclose(file);
    return file != NULL;
}
static void offers(void) {
    const char *at = getenv("CAMERA_MODES");
    char letters[5];
    for (count = 0; at && count < 16; count++) {
        struct mode *m = &modes[count];
        if (sscanf(at, "%4[^:]:%ux%u@%u", letters, &m->width, &m->height, &m->fps) != 4) break;
        m->format = v4l2_fourcc(letters[0], letters[1], letters[2], letters[3]);
        at = strchr(at, ',');
        if (at) at++;
    }
}
/* As UVC does: a format that it has not becomes its default, a size the nearest below. */
static struct mode chosen(unsigned format, unsigned width, unsigned height) {
    struct mode *best = NULL, *last = &modes[count - 1];
    int has = 0;
    for (int i = 0; i < count; i++) has |= modes[i].format == format;
    if (!has) format = last->format;
    for (int i = 0; i < count; i++)
        if (modes[i].format == format) {
            last = &modes[i];
            if (modes[i].width <= width && modes[i].height <= height && (!best || modes[i].width > best->width)) best = &modes[i];
        }
    return best ? *best : *last;
}
static int opened(void) {
    if (there("gone")) { errno = ENODEV; return -1; }
    offers();
    now = modes[count - 1];
    queued = 0;
    fd = memfd_create("camera", 0);
    if (ftruncate(fd, 8L * SLOT)) return -1;
    return fd;
}
int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    if (!strcmp(path, ME)) return opened();
    REAL(open); return real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    if (!strcmp(path, ME)) return opened();
    REAL(open64); return real(path, flags, mode);
}
int close(int which) {
    if (which == fd) fd = -1;
    REAL(close); return real(which);
}
static void fill(struct v4l2_format *f) {
    f->fmt.pix.width = now.width; f->fmt.pix.height = now.height; f->fmt.pix.pixelformat = now.format;
    f->fmt.pix.field = V4L2_FIELD_NONE; f->fmt.pix.bytesperline = now.format == V4L2_PIX_FMT_MJPEG ? 0 : now.width * 2;
    f->fmt.pix.sizeimage = now.width * now.height * 2; f->fmt.pix.colorspace = V4L2_COLORSPACE_SRGB;
}
static unsigned frame(int slot) {
    static unsigned char bytes[SLOT];
    size_t size = (size_t)now.width * now.height * 2;
    if (now.format == V4L2_PIX_FMT_MJPEG) {
        char name[32];
        snprintf(name, sizeof name, "%u.jpg", sequence);
        if (!there(name)) { sequence = 0; strcpy(name, "0.jpg"); }
        FILE *file = beside(name, "r");
        size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
        if (file) fclose(file);
    } else
        for (size_t i = 0; i < size; i++) bytes[i] = i % 2 ? 128 : 40 + (i / 64 % 2 ^ i / now.width / 32 % 2) * 150 + rand() % 3;
    sequence++;
    return pwrite(fd, bytes, size, (off_t)slot * SLOT) < 0 ? 0 : size;
}
int ioctl(int which, unsigned long request, ...) {
    va_list rest; va_start(rest, request); void *arg = va_arg(rest, void *); va_end(rest);
    if (which != fd || fd < 0) { REAL(ioctl); return real(which, request, arg); }
    if (there("gone")) { errno = ENODEV; return -1; }
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *c = arg;
        memset(c, 0, sizeof *c);
        c->capabilities = c->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0; }
    case VIDIOC_ENUMINPUT: if (((struct v4l2_input *)arg)->index) break; ((struct v4l2_input *)arg)->type = V4L2_INPUT_TYPE_CAMERA; return 0;
    case VIDIOC_G_INPUT: case VIDIOC_S_INPUT: *(int *)arg = 0; return 0;
    case VIDIOC_G_FMT: fill(arg); return 0;
    case VIDIOC_TRY_FMT: case VIDIOC_S_FMT: {
        struct v4l2_format *f = arg;
        now = chosen(f->fmt.pix.pixelformat, f->fmt.pix.width, f->fmt.pix.height);
        fill(f);
        return 0; }
    case VIDIOC_S_PARM: case VIDIOC_G_PARM: {
        struct v4l2_captureparm *p = &((struct v4l2_streamparm *)arg)->parm.capture;
        unsigned asked = request == VIDIOC_S_PARM && p->timeperframe.numerator ? p->timeperframe.denominator / p->timeperframe.numerator : 0;
        if (request == VIDIOC_S_PARM) {
            FILE *file = beside("asked", "a");
            fprintf(file, "%.4s %ux%u %u\n", (char *)&now.format, now.width, now.height, asked);
            fclose(file);
        }
        p->capability = V4L2_CAP_TIMEPERFRAME; p->timeperframe.numerator = 1; p->timeperframe.denominator = now.fps;
        return 0; }
    case VIDIOC_REQBUFS: { struct v4l2_requestbuffers *b = arg; if (b->count > 8) b->count = 8; queued = 0; return 0; }
    case VIDIOC_QUERYBUF: { struct v4l2_buffer *b = arg; b->length = SLOT; b->m.offset = b->index * SLOT; return 0; }
    case VIDIOC_QBUF: if (queued < 8) queue[queued++] = ((struct v4l2_buffer *)arg)->index; return 0;
    case VIDIOC_DQBUF: {
        struct v4l2_buffer *b = arg;
        if (!queued || there("hang")) { errno = EAGAIN; return -1; }
        struct timespec wait = {0, 1000000000L / now.fps};
        nanosleep(&wait, NULL);
        b->index = queue[0]; memmove(queue, queue + 1, --queued * sizeof *queue);
        b->bytesused = frame(b->index); b->length = SLOT; b->flags = 0;
        return 0; }
    case VIDIOC_STREAMON: case VIDIOC_STREAMOFF: return 0;
    }
    errno = EINVAL;
    return -1;
}
int select(int n, fd_set *in, fd_set *out, fd_set *odd, struct timeval *limit) {
    REAL(select);
    if (fd < 0 || !in || fd >= n || !FD_ISSET(fd, in)) return real(n, in, out, odd, limit);
    if (!there("gone") && (there("hang") || !queued)) {
        real(0, NULL, NULL, NULL, limit);
        FD_ZERO(in);
        return 0;
    }
    return 1;
}

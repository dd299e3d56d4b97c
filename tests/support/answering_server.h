// A server on this machine for tests of formats/net: one connection after the other, one request each, and what the
// test says for an answer, right or wrong.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace q4::test {

// An answer whose length is that of its body. `headers`: lines with "\r\n".
inline std::string Reply(int status, const std::string& headers, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body;
}

// The lines of one request.
struct Request {
  std::string text;

  std::string path() const {
    const std::size_t begin = text.find(' ') + 1;
    return text.substr(begin, text.find(' ', begin) - begin);
  }
  bool Has(std::string_view line) const { return text.find(line) != std::string::npos; }
};

class AnsweringServer {
 public:
  // Gives the bytes of an answer; called by one thread.
  using Answer = std::function<std::string(const Request&)>;

  explicit AnsweringServer(Answer answer) : answer_(std::move(answer)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener_ < 0 || ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 64) != 0 || ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no server on 127.0.0.1");
    }
    origin_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { Serve(); });
  }
  ~AnsweringServer() {
    ended_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  AnsweringServer(const AnsweringServer&) = delete;
  AnsweringServer& operator=(const AnsweringServer&) = delete;

  const std::string& origin() const { return origin_; }
  std::vector<Request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void Serve() {
    while (!ended_) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      Request request;
      char piece[4096];
      while (request.text.find("\r\n\r\n") == std::string::npos) {
        const ssize_t got = ::recv(connection, piece, sizeof piece, 0);
        if (got <= 0) break;
        request.text.append(piece, static_cast<std::size_t>(got));
      }
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      std::string_view answer;
      const std::string whole = answer_(request);
      for (answer = whole; !answer.empty();) {
        const ssize_t sent = ::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
        if (sent <= 0) break;
        answer.remove_prefix(static_cast<std::size_t>(sent));
      }
      // What the client has still to say is read, or the system would take back what was sent.
      ::shutdown(connection, SHUT_WR);
      while (::recv(connection, piece, sizeof piece, 0) > 0) {
      }
      ::close(connection);
    }
  }

  const Answer answer_;
  int listener_ = -1;
  std::string origin_;
  std::mutex mutex_;
  std::vector<Request> requests_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace q4::test

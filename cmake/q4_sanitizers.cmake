# Q4_SANITIZE applies to every target, dependencies from packages excepted.
if(Q4_SANITIZE)
  add_compile_options(-fsanitize=${Q4_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${Q4_SANITIZE})
endif()

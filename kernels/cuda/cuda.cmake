# libapiq_cuda_emulated and cuda_emulator_tests always; libapiq_cuda where nvcc is found.
#
# The same sources make both libraries. device_api_cuda.cpp stands for the device in one, emulator/ in the other; the kernels
# (ops/*.cu) are compiled by nvcc for one and as C++ for the other.
option(APIQ_CUDA_RELEASE "Compile libapiq_cuda for sm_80, 86, 89, 90a, 100 and PTX instead of sm_90 alone" OFF)

set(APIQ_CUDA_DIR ${CMAKE_CURRENT_LIST_DIR})
file(GLOB APIQ_CUDA_HOST_SOURCES CONFIGURE_DEPENDS ${APIQ_CUDA_DIR}/*.cpp)
list(REMOVE_ITEM APIQ_CUDA_HOST_SOURCES ${APIQ_CUDA_DIR}/device_api_cuda.cpp)
file(GLOB APIQ_CUDA_KERNELS CONFIGURE_DEPENDS ${APIQ_CUDA_DIR}/ops/*.cu)
file(GLOB APIQ_EMULATOR_SOURCES CONFIGURE_DEPENDS ${APIQ_CUDA_DIR}/emulator/*.cpp)
file(GLOB APIQ_EMULATOR_TESTS CONFIGURE_DEPENDS ${APIQ_CUDA_DIR}/emulator/tests/*.cpp)

# ---- emulated ------------------------------------------------------------------------------------

set_source_files_properties(${APIQ_CUDA_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
add_library(apiq_cuda_emulated_objects OBJECT ${APIQ_COMMON_SOURCES} ${APIQ_CUDA_HOST_SOURCES} ${APIQ_CUDA_KERNELS}
  ${APIQ_EMULATOR_SOURCES})
target_include_directories(apiq_cuda_emulated_objects PUBLIC ${CMAKE_CURRENT_LIST_DIR}/../include)
target_compile_definitions(apiq_cuda_emulated_objects PUBLIC APIQ_EMULATED)

add_library(apiq_cuda_emulated SHARED $<TARGET_OBJECTS:apiq_cuda_emulated_objects>)
set_target_properties(apiq_cuda_emulated PROPERTIES LINKER_LANGUAGE CXX)
target_link_options(apiq_cuda_emulated PRIVATE -Wl,--no-undefined,--exclude-libs,ALL -static-libstdc++ -static-libgcc)

add_executable(cuda_emulator_tests ${APIQ_EMULATOR_TESTS} $<TARGET_OBJECTS:apiq_cuda_emulated_objects>)
target_include_directories(cuda_emulator_tests PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../include)
target_compile_definitions(cuda_emulator_tests PRIVATE APIQ_EMULATED APIQ_HEADER="${CMAKE_CURRENT_LIST_DIR}/../include/apiq.h")
# GCC 12 takes `"literal" + std::string` for an overlapping copy (its bug 105329).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(cuda_emulator_tests PRIVATE -Wno-restrict)
endif()
# The test of the exported symbols opens it.
add_dependencies(cuda_emulator_tests apiq_cuda_emulated)
target_link_libraries(cuda_emulator_tests PRIVATE ${CMAKE_DL_LIBS})

# ---- with nvcc -----------------------------------------------------------------------------------

find_program(APIQ_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
if(NOT APIQ_NVCC)
  message(STATUS "nvcc not found: libapiq_cuda is not built, libapiq_cpu is")
  return()
endif()

if(APIQ_CUDA_RELEASE)
  set(APIQ_CUDA_ARCHITECTURES -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_86,code=sm_86
    -gencode=arch=compute_89,code=sm_89 -gencode=arch=compute_90a,code=sm_90a
    -gencode=arch=compute_100,code=[sm_100,compute_100])
else()
  set(APIQ_CUDA_ARCHITECTURES -gencode=arch=compute_90,code=sm_90)
endif()
# -fmad=false for the same reason as -ffp-contract=off: every fused multiply-add is written out.
set(APIQ_NVCC_FLAGS -std=c++20 -O3 -fmad=false -Xptxas -v -I${CMAKE_CURRENT_LIST_DIR}/../include
  -Xcompiler=-fPIC,-fvisibility=hidden,-fvisibility-inlines-hidden,-ffp-contract=off)

set(APIQ_CUDA_OBJECT_DIR ${CMAKE_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${APIQ_CUDA_OBJECT_DIR})
set(APIQ_CUDA_OBJECTS)
set(APIQ_CUDA_LOGS)
foreach(SOURCE ${APIQ_CUDA_KERNELS} ${APIQ_CUDA_DIR}/device_api_cuda.cpp)
  get_filename_component(NAME ${SOURCE} NAME_WE)
  set(OBJECT ${APIQ_CUDA_OBJECT_DIR}/${NAME}.o)
  set(LOG ${APIQ_CUDA_OBJECT_DIR}/${NAME}.log)
  add_custom_command(OUTPUT ${OBJECT} BYPRODUCTS ${LOG}
    COMMAND sh ${APIQ_CUDA_DIR}/run_logged.sh ${LOG} ${APIQ_NVCC} ${APIQ_NVCC_FLAGS} ${APIQ_CUDA_ARCHITECTURES}
      -MD -MF ${OBJECT}.d -c ${SOURCE} -o ${OBJECT}
    DEPENDS ${SOURCE} DEPFILE ${OBJECT}.d VERBATIM COMMENT "nvcc ${NAME}")
  list(APPEND APIQ_CUDA_OBJECTS ${OBJECT})
  list(APPEND APIQ_CUDA_LOGS ${LOG})
endforeach()

add_library(apiq_cuda_host OBJECT ${APIQ_COMMON_SOURCES} ${APIQ_CUDA_HOST_SOURCES})
target_include_directories(apiq_cuda_host PRIVATE ${CMAKE_CURRENT_LIST_DIR}/../include)

# nvcc links: it knows where its runtime is. libapiq_cuda.ptxas.log has the registers, spills and shared memory of every kernel.
set(APIQ_CUDA_LIBRARY ${CMAKE_BINARY_DIR}/libapiq_cuda.so)
add_custom_command(OUTPUT ${APIQ_CUDA_LIBRARY}
  COMMAND ${APIQ_NVCC} -shared -cudart static ${APIQ_CUDA_ARCHITECTURES} -Xcompiler=-static-libstdc++,-static-libgcc
    -Xlinker=--no-undefined,--exclude-libs=ALL $<TARGET_OBJECTS:apiq_cuda_host> ${APIQ_CUDA_OBJECTS} -o ${APIQ_CUDA_LIBRARY}
  COMMAND sh ${APIQ_CUDA_DIR}/run_logged.sh ${CMAKE_BINARY_DIR}/libapiq_cuda.ptxas.log cat ${APIQ_CUDA_LOGS}
  DEPENDS apiq_cuda_host $<TARGET_OBJECTS:apiq_cuda_host> ${APIQ_CUDA_OBJECTS}
  COMMAND_EXPAND_LISTS VERBATIM COMMENT "Linking libapiq_cuda.so")
add_custom_target(apiq_cuda ALL DEPENDS ${APIQ_CUDA_LIBRARY})
